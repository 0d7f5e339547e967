"""HiT-SRF: its published weights, and what makes it fast without changing what it computes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from network_tester import NetworkTester, counts

import restore
from restore.images import read_image
from restore.layers.position_bias import gather_bias, mean_of_cells, relative_position_index, relative_positions
from restore.networks.hitsr import HiTSRF
from restore.registry import NETWORKS

SMALL = {"type": "HiT_SRF", "embed_dim": 16, "depths": [2], "num_heads": [2]}


class TestHiTSRF(NetworkTester):
    variants: ClassVar[dict[str, dict]] = {
        "x4": {**SMALL, "hier_win_ratios": [0.5, 2]},
        "grey_denoise": {**SMALL, "in_chans": 1, "upscale": 1, "upsampler": "", "resi_connection": "3conv",
                         "patch_norm": False, "ape": True, "img_size": 16},
    }  # fmt: skip
    recognised = False  # sides of windows are in no key

    def test_arguments_are_told_from_keys(self):
        network = NETWORKS.build(SMALL)
        found = HiTSRF.recognise(network.state_dict())
        assert found is not None
        assert NETWORKS.build({"type": "HiT_SRF", **found}).state_dict().keys() == network.state_dict().keys()


def test_size():
    assert counts(HiTSRF) == (866_420, 882)
    assert counts(HiTSRF, upscale=2)[0] == 846_944


def test_published_option_files_call_the_ratio_a_factor():
    network = NETWORKS.build({**SMALL, "expansion_factor": 3})
    wanted = NETWORKS.build({**SMALL, "mlp_ratio": 3})
    assert [each.shape for each in network.parameters()] == [each.shape for each in wanted.parameters()]


@pytest.mark.parametrize(("options", "message"), [
    ({"embed_dim": 20}, "divisible by twice num_heads"),
    ({"depths": [7], "num_heads": [6]}, "has 7 blocks, but hier_win_ratios only 6"),
    ({"hier_win_ratios": [1.5], "depths": [1], "num_heads": [6]}, "a window of 12 x 12 is no multiple of 8 x 8"),
    ({"num_heads": [6]}, "name one group each"),
    ({"base_win_size": [8]}, "rows and columns"),
])  # fmt: skip
def test_impossible_configurations_say_why(options, message):
    with pytest.raises(ValueError, match=message):
        HiTSRF(**options)


def test_the_bias_of_cells_is_the_mean_over_their_tokens():
    torch.manual_seed(0)
    window, cell = (4, 6), (2, 3)
    table_Rh = torch.rand(7 * 11, 5)
    bias_hNN = gather_bias(table_Rh, relative_position_index(window))
    cells = bias_hNN.view(5, 24, 2, 2, 2, 3).mean(dim=(3, 5)).flatten(2)
    found = gather_bias(mean_of_cells(table_Rh, window, cell), relative_position_index(window, cell))
    torch.testing.assert_close(found, cells)
    positions = relative_positions(window)
    assert positions[0].tolist() == [-3, -5]
    assert positions[relative_position_index(window)[23, 0]].tolist() == [3, 5]  # from the first token to the last


def test_published_weights(shared):
    """One of Set5's images at x4; all five give 32.55 dB, as published, with `restore test`."""
    restorer = restore.load_model(shared("weights/hit_srf_x4.pth"), device="cpu", precision="fp32")
    folder = shared("data/benchmark/Set5")
    restored = restorer(read_image(folder / "LR_bicubic/X4/womanx4.png").pixels[:48, :57])
    reference = read_image(folder / "HR/woman.png").pixels[: restored.shape[0], : restored.shape[1]]
    assert float(restore.metrics.psnr(restored, reference, border_px=4, luma=True)) > 20
    state = torch.load(shared("weights/hit_srf_x4.pth"), weights_only=True)["params"]
    assert list(HiTSRF().state_dict()) == list(state)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "scale", "psnr"), [("hit_srf_x4", 4, 32.550), ("ngswin_x2", 2, 38.040)])
def test_published_figures(shared, file, scale, psnr):
    """Set5, luma without a border of so many pixels as the scale."""
    restorer = restore.load_model(shared(f"weights/{file}.pth"), device="cpu", precision="fp32")
    folder, found = shared("data/benchmark/Set5"), []
    for path in sorted((folder / "HR").iterdir()):
        restored = restorer(read_image(folder / f"LR_bicubic/X{scale}/{path.stem}x{scale}.png").pixels)
        reference = read_image(path).pixels[: restored.shape[0], : restored.shape[1]]
        found.append(float(restore.metrics.psnr(restored, reference, border_px=scale, luma=True)))
    assert np.mean(found) == pytest.approx(psnr, abs=0.01)
