"""The picture at the top of the README: details of the demo photographs, bicubic beside restored beside reference.

python restore/test.py -opt options/swinir_x4.yml && python scripts/demo_picture.py docs/demo.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from restore.data.datasets import reduced
from restore.images import read_image, resize_pixels
from restore.registry import DATASETS

DETAILS = {"astronaut": (300, 300), "motorcycle": (130, 100)}  # name: top and left of the detail
SIDE, ZOOM, GAP, HEAD = 160, 2, 8, 40
COLUMNS = ("bicubic x4", "restored x4", "reference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results/swinir_x4"))
    arguments = parser.parse_args()
    dataset = DATASETS.build({"type": "CardDataset", "card": "demo"}, name="Demo", scale=4)
    pairs = {pair.name: pair for pair in dataset.pairs if pair.name in DETAILS}
    cell = SIDE * ZOOM
    sheet = Image.new("RGB", (3 * cell + 2 * GAP, HEAD + len(pairs) * (cell + GAP) - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(24)
    for column, title in enumerate(COLUMNS):
        draw.text((column * (cell + GAP) + cell // 2, HEAD // 2), title, fill="black", font=font, anchor="mm")
    for row, (name, (top, left)) in enumerate(DETAILS.items()):
        (restored,) = arguments.results.glob(f"visualization/Demo/{name}_*.png")
        reference = read_image(pairs[name].gt).pixels
        bicubic = resize_pixels(reduced(reference, 4, name), size=reference.shape[:2])
        for column, pixels in enumerate((bicubic, read_image(restored).pixels, reference)):
            detail = np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])
            picture = Image.fromarray(detail).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(picture, (column * (cell + GAP), HEAD + row * (cell + GAP)))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.output, quality=88)


if __name__ == "__main__":
    main()
