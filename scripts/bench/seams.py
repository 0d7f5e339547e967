"""How much the joins of tiles show, by how far tiles overlap: the reason for the default of `tile_overlap`.

    python scripts/bench/seams.py IMAGE [--models NAME ...] [--overlaps 0 8 16 32 48] [--side 144] [--tile 72]

A square of the image is restored in float32 whole, and in tiles. The figures are the largest difference, its root mean
square and its steepest step from one pixel to the next, in units of 1/255. (A denoiser sees the image with noise.)
"""

from __future__ import annotations

import argparse

import torch

from restore.images import read_image
from restore.inference import Restorer
from restore.networks.spec import spec_of
from restore.zoo import load_network

MODELS = ("swinir_light_x4", "swinir_light_color_dn", "metaformer_light_x4")
SIGMA = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--overlaps", type=int, nargs="+", default=[0, 8, 16, 32, 48])
    parser.add_argument("--side", type=int, default=144, help="of the square, in px")
    parser.add_argument("--tile", type=int, default=72, help="side of a tile in px")
    arguments = parser.parse_args()
    pixels = read_image(arguments.image).pixels[: arguments.side, : arguments.side]
    clean_BCHW = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    noise_BCHW = torch.randn(clean_BCHW.shape, generator=torch.Generator().manual_seed(0)) * SIGMA / 255
    for name in arguments.models:
        network = load_network(name)
        x_BCHW = clean_BCHW + noise_BCHW if spec_of(network).scale == 1 else clean_BCHW
        whole = restored(network, x_BCHW, tile=None)
        for overlap in arguments.overlaps:
            difference = 255 * (restored(network, x_BCHW, tile=arguments.tile, tile_overlap=overlap) - whole)
            steps = [difference.diff(dim=dim).abs().max().item() for dim in (-2, -1)]
            print(
                f"{name:24} overlap {overlap:3} px: largest {difference.abs().max():7.3f}, "
                f"rms {difference.square().mean().sqrt():7.4f}, step {max(steps):7.3f}",
                flush=True,
            )


def restored(network: torch.nn.Module, x_BCHW: torch.Tensor, **tiling: int | None) -> torch.Tensor:
    return Restorer(network, device="cpu", precision="fp32", **tiling)(x_BCHW)


if __name__ == "__main__":
    main()
