"""The named protocols of published figures: which channel, border and rounding stand behind a PSNR or an SSIM.

    psnr(restored, reference, **PROTOCOLS["swinir_sr"].arguments(scale=4))

A figure without its protocol cannot be compared: between two of these, the same pair differs by more than most papers
gain. The facts come from the evaluation code that is named beside each protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from restore.errors import OptionsError, nearest
from restore.metrics.inputs import Luma

__all__ = ["PROTOCOLS", "Protocol", "protocol"]


@dataclass(frozen=True)
class Protocol:
    """How images are prepared before PSNR or SSIM.

    Attributes:
        source: the code or challenge whose figures it reproduces.
        luma: False for RGB, True for BT.601 studio luma, "edsr" for the luma without offset.
        border_px: fixed part of the border that is cut off.
        border_scales: part of the border in multiples of the upscaling factor; none at scale 1.
        y_rounding: "matlab" rounds luma to 8 bits.
        bits: depth to which the restored image is rounded first; None for float output.
    """

    source: str
    luma: Luma = False
    border_px: int = 0
    border_scales: int = 0
    y_rounding: Literal["none", "matlab"] = "none"
    bits: int | None = 8

    def arguments(self, scale: int = 1) -> dict[str, Any]:
        """The keyword arguments of `psnr`, `psnr_b`, `ssim` and `ms_ssim` for an upscaling factor."""
        border_px = self.border_px + (self.border_scales * scale if scale > 1 else 0)
        return {"border_px": border_px, "luma": self.luma, "y_rounding": self.y_rounding, "bits": self.bits}

    def __str__(self) -> str:
        channels: dict[object, str] = {False: "RGB", True: "Y"}
        channel = channels.get(self.luma, f"Y ({self.luma})")
        scales = {0: "", 1: "scale"}.get(self.border_scales, f"{self.border_scales} x scale")
        border = " + ".join(part for part in (str(self.border_px or ""), scales) if part) or "0"
        rounding = "not rounded" if self.bits is None else f"{self.bits} bit"
        luma_rounding = ", Y rounded" if self.y_rounding == "matlab" else ""
        return f"{channel}, border {border} px, {rounding}{luma_rounding}"


PROTOCOLS = {
    "basicsr": Protocol("BasicSR, test_y_channel false", border_scales=1),
    "basicsr_y": Protocol("BasicSR, test_y_channel true", luma=True, border_scales=1),
    "swinir_sr": Protocol("SwinIR main_test_swinir.py, super-resolution", luma=True, border_scales=1),
    "swinir_denoise": Protocol("SwinIR main_test_swinir.py, denoising and JPEG artefacts"),
    "edt_sr": Protocol("EDT, super-resolution", luma=True, border_scales=1),
    "ipt": Protocol("IPT and EDSR benchmarks: luma for every task", luma="edsr", border_scales=1),
    "restormer": Protocol("Restormer, denoising and deblurring"),
    "restormer_derain": Protocol("Restormer, deraining (MATLAB)", luma=True, y_rounding="matlab"),
    "sidd": Protocol("SIDD validation blocks, float output", bits=None),
    "div2k2017": Protocol("NTIRE 2017/2018 super-resolution, EDSR on DIV2K", border_px=6, border_scales=1),
    "ntire_esr": Protocol("NTIRE 2022-2026 efficient super-resolution x4", border_px=4),
    "ntire_dn50": Protocol("NTIRE 2023-2026 denoising, sigma 50", border_px=4),
    "ntire_sr25_board": Protocol("NTIRE 2025/2026 x4 leaderboard", luma=True, border_px=4, y_rounding="matlab"),
    "ntire_sr25_eval": Protocol("NTIRE 2025 x4, the public eval.py: neither luma nor border"),
}


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        OptionsError: there is none; the message gives the nearest and the list.
    """
    if name not in PROTOCOLS:
        known = ", ".join(sorted(PROTOCOLS))
        raise OptionsError(f"unknown protocol '{name}'.{nearest(name, PROTOCOLS)} Known: {known}.")
    return PROTOCOLS[name]
