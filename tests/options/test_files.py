"""Option files as they are: our own, and BasicSR's where a copy is at hand.

BasicSR's files are not ours to carry. Name the `options` folder of a checkout in RESTORE_BASICSR_OPTIONS to run them:
each must load unedited, or end in exactly one mistake that names the component we lack and the nearest we have.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from restore.errors import OptionsError
from restore.metrics import psnr
from restore.options import load
from restore.registry import DATASETS
from restore.zoo import list_cards

FOLDER_OF_OURS = Path(__file__).parents[2] / "options"
OURS = sorted(FOLDER_OF_OURS.glob("*.yml"))  # the folders inside hold what these extend
FOLDER = os.environ.get("RESTORE_BASICSR_OPTIONS")
THEIRS = sorted(Path(FOLDER).rglob("*.yml")) if FOLDER else []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_our_files_are_right(path, tmp_path):
    options = load(path)
    (tmp_path / "dumped.yml").write_text(options.dump())
    assert load(tmp_path / "dumped.yml", is_train=options.is_train) == options


@pytest.mark.parametrize("path", sorted((FOLDER_OF_OURS / "benchmarks").glob("*.yml")), ids=lambda path: path.stem)
def test_benchmarks_take_any_weights(path):
    with pytest.raises(OptionsError, match=r"network_g: missing.*name weights in path\.pretrain_network_g"):
        load(path)
    options = load(path, ["path.pretrain_network_g=model.pth"])
    assert options.name == path.stem
    assert all(dataset.scale == options.scale for dataset in options.phases("test"))


@pytest.mark.parametrize("path", [path for path in OURS if path.stem.startswith("test_")], ids=lambda path: path.stem)
def test_test_files_measure_what_their_model_is_for(path):
    """The near-identical files of one family are easily confused; the card of the model knows what it is for."""
    options = load(path)
    assert options.name == path.stem
    card = {card.name: card for card in list_cards()}.get(options.path.pretrain_network_g)
    if card is None:  # weights that no card knows
        assert options.path.pretrain_network_g.endswith(".pth")
        return
    assert options.scale == card.scale
    for dataset in options.phases("test"):
        block = dataset.block
        variables = block.get("variables", {})
        assert block.get("sigma_test", variables.get("sigma")) == card.sigma
        assert variables.get("quality") == card.quality
        assert (block.get("in_ch") == 1 or block.get("color") in ("y", "grey")) == card.grey
    borders = [
        block[key] for block in options.val.metrics.values() for key in ("crop_border", "border_px") if key in block
    ]
    assert set(borders) <= {options.scale if options.scale > 1 else 0}


@pytest.mark.parametrize(("quality", "expected"), [(10, 27.82), (40, 32.43)])
def test_jpeg_of_classic5_is_measured_on_its_grey_files_as_they_are(shared, quality, expected):
    """Luma of video range, which `color: y` makes of grey files too, would give 0.8 dB more."""
    first = next(load(FOLDER_OF_OURS / f"test_swinir_jpeg_grey_{quality}.yml").phases("test"))
    folder = shared("data/benchmark/classic5")
    dataset = DATASETS.build(first.block | {"dataroot_gt": str(folder)}, name="Classic5", scale=1)
    values = [psnr(dataset[index]["lq"], dataset[index]["gt"]) for index in range(len(dataset))]
    assert sum(values) / len(values) == pytest.approx(expected, abs=0.005)


def test_every_model_of_the_four_networks_has_a_test_file():
    tested = {load(path).path.pretrain_network_g for path in OURS if path.stem.startswith("test_")}
    cards = {card.name for card in list_cards() if card.name.startswith(("swinir", "uformer", "ipt", "edt"))}
    shipped = {"swinir_light_x2", "swinir_light_x4", "swinir_light_color_dn"}
    assert cards - tested <= shipped | {"swinir_real_psnr_x4", "swinir_real_large_psnr_x4"}


@pytest.mark.skipif(not THEIRS, reason="needs BasicSR's option files in RESTORE_BASICSR_OPTIONS")
def test_files_of_basicsr_load_unedited():
    wrong = {}
    for path in THEIRS:
        try:
            load(path)
        except OptionsError as error:
            messages = [problem.message for problem in error.problems]
            if len(messages) > 1 or "is not part of this package" not in messages[0]:
                wrong[str(path.relative_to(FOLDER))] = messages
    assert wrong == {}
