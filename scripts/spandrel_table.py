"""Round trips with spandrel: each network that both know, trained here for no time, written, and read there.

    python scripts/spandrel_table.py

For each shipped model, and for each of our networks that spandrel has too: whether spandrel opens what is written, as
what, and by how much its result differs at most. A checkpoint of a training (.pth) and safetensors are both tried.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from restore.networks.checkpoint import NETWORK_BLOCK
from restore.zoo import build_model, list_cards, load_model
from restore.zoo.portable import write_portable

SWINIR = {"type": "SwinIR", "window_size": 8, "img_size": 32, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2],
          "mlp_ratio": 2}  # fmt: skip
BLOCKS: dict[str, dict[str, Any]] = {
    "SwinIR light x2": {**SWINIR, "upscale": 2, "upsampler": "pixelshuffledirect"},
    "SwinIR classical x4": {**SWINIR, "upscale": 4, "upsampler": "pixelshuffle"},
    "SwinIR real x4": {**SWINIR, "upscale": 4, "upsampler": "nearest+conv"},
    "SwinIR large x4": {**SWINIR, "upscale": 4, "upsampler": "nearest+conv", "resi_connection": "3conv"},
    "SwinIR denoiser": {**SWINIR, "upscale": 1, "upsampler": ""},
    "RRDBNet x4": {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_block": 2},
    "RRDBNet x2": {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_block": 2, "scale": 2},
    "SRVGGNetCompact x4": {"type": "SRVGGNetCompact", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_conv": 4,
                           "upscale": 4, "act_type": "prelu"},
    "Uformer": {"type": "Uformer", "img_size": 128, "embed_dim": 16},
    "FFDNet": {"type": "FFDNet"},
    "RFDN x4": {"type": "RFDN", "upscale": 4},
    "IMDN x4": {"type": "IMDN", "upscale": 4},
    "RLFN x4": {"type": "RLFN", "upscale": 4},
    "EDSR x4": {"type": "EDSR", "num_feat": 16, "num_block": 2, "upscale": 4},
}  # fmt: skip


def compared(path: Path) -> str:
    """What spandrel makes of a file, and by how much its result differs from ours."""
    import spandrel

    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_file(path)
    except spandrel.UnsupportedModelError:
        return "not known to spandrel"
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {str(error).splitlines()[0][:80]}"
    x_BCHW = torch.rand(1, descriptor.input_channels, 64, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = descriptor(x_BCHW)
    ours = load_model(path, precision="fp32", device="cpu", tile=None)(x_BCHW).clamp(0, 1)
    return f"{descriptor.architecture.id} x{descriptor.scale}, differs by {(theirs - ours).abs().max():.1e}"


def main() -> None:
    warnings.simplefilter("ignore")
    for card in list_cards():
        if card.path and card.restores:
            print(f"{card.name:24} shipped      {compared(card.path)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, block in BLOCKS.items():
            torch.manual_seed(0)
            try:
                network = build_model(block)
            except ValueError as error:
                print(f"{name:24} {error}")
                continue
            path = Path(folder) / f"{name.replace(' ', '_')}.pth"
            torch.save({"params": network.state_dict(), NETWORK_BLOCK: block}, path)
            print(f"{name:24} .pth         {compared(path)}", flush=True)
            write_portable(path, path.with_suffix(".safetensors"))
            print(f"{name:24} .safetensors {compared(path.with_suffix('.safetensors'))}", flush=True)


if __name__ == "__main__":
    main()
