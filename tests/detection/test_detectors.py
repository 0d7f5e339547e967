"""Detectors: shapes, sizes, gradients, boxes in pixels, weights that come back, and whole photographs in tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.detection import Detector, Finding, load_detector
from restore.detection.base import without_repeats
from restore.detection.loading import save_detector
from restore.errors import CheckpointError, MissingError, OptionsError
from restore.inference.finding import OVERLAP_PX, find
from restore.layers.query_decoder import Levels, box_features, moved
from restore.losses.detection import Predictions, SetLoss, Wanted
from restore.registry import DETECTORS, LOSSES
from restore.zoo import build_model, load_model

SMALL = {
    "QueryDetector": {
        "type": "QueryDetector",
        "encoder": {"type": "conv_pyramid", "widths": [4, 6, 8], "out_indices": [1, 2]},
        "width": 16,
        "num_heads": 2,
        "num_points": 2,
        "num_queries": 6,
        "num_layers": 2,
    }
}


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    torch.manual_seed(0)


@pytest.fixture(params=DETECTORS.names())
def block(request):
    return SMALL[request.param]


@pytest.mark.parametrize("size", [(1, 1), (9, 17), (40, 33), (64, 64)])
def test_predictions_of_any_size(block, size):
    detector = DETECTORS.build(block)
    steps = detector(torch.rand(2, 3, *size))
    assert len(steps) == 3
    for logits, boxes in steps:
        assert logits.shape == (2, boxes.shape[1], len(detector.kinds))
        assert boxes.shape[2] == 4
        assert (boxes[..., 2:] > 0).all()
        assert boxes.isfinite().all()
    for findings in detector.find(torch.rand(2, 3, *size), min_score=0.0):
        assert findings
        assert [each.score for each in findings] == sorted((each.score for each in findings), reverse=True)
        for each in findings:
            left, top, right, bottom = each.box
            assert 0 <= left <= right <= size[1]
            assert 0 <= top <= bottom <= size[0]
            assert each.kind in detector.kinds


def test_every_parameter_learns(block):
    detector = DETECTORS.build({**block, "num_encoder_layers": 1})
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    wanted = [Wanted(torch.tensor([0, 3]), torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.6, 0.7, 0.3, 0.1]]))] * 2
    losses = [SetLoss()(Predictions(*step), wanted) for step in detector(torch.rand(2, 3, 48, 48))]
    sum(sum(each.values()) for each in losses).backward()
    dead = [name for name, each in detector.named_parameters() if each.grad is None or not each.grad.any()]
    assert dead == []


def test_images_of_a_batch_do_not_meet(block):
    detector = DETECTORS.build(block).eval()
    x_BCHW = torch.rand(2, 3, 32, 40)
    together, alone = detector(x_BCHW), detector(x_BCHW[1:])
    for (logits, boxes), (own_logits, own_boxes) in zip(together, alone, strict=True):
        torch.testing.assert_close(logits[1:], own_logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(boxes[1:], own_boxes, atol=1e-5, rtol=1e-4)


def test_searching_leaves_the_mode(block):
    detector = DETECTORS.build(block)
    detector.find(torch.rand(1, 3, 16, 16))
    assert detector.training


def test_what_is_proposed_first_are_squares_around_positions():
    detector = DETECTORS.build(SMALL["QueryDetector"])
    boxes = detector(torch.rand(1, 3, 16, 24))[0][1][0] * torch.tensor([24, 16, 24, 16])
    fine, coarse = boxes[: 4 * 6], boxes[4 * 6 :]
    assert fine[0].tolist() == pytest.approx([2, 2, 16, 16])
    assert fine[7].tolist() == pytest.approx([6, 6, 16, 16])
    assert coarse[0].tolist() == pytest.approx([4, 4, 32, 32])
    assert len(coarse) == 2 * 3


@pytest.mark.slow
def test_it_learns_one_image():
    torch.manual_seed(0)
    encoder = {"type": "conv_pyramid", "widths": [8, 12, 16], "out_indices": [1, 2]}
    detector = DETECTORS.build({**SMALL["QueryDetector"], "encoder": encoder, "kinds": ["spot", "bar"]})
    x_BCHW = torch.full((1, 3, 48, 48), 0.5)
    x_BCHW[..., 8:20, 10:22], x_BCHW[..., 30:36, 4:40] = 1.0, 0.0
    corners = torch.tensor([[10.0, 8, 22, 20], [4, 30, 40, 36]])
    centres = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1) / 48
    optimizer = torch.optim.AdamW(detector.parameters(), 3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        steps = detector(x_BCHW)
        losses = [SetLoss()(Predictions(*step), [Wanted(torch.tensor([0, 1]), centres)]) for step in steps]
        sum(sum(each.values()) for each in losses).backward()
        optimizer.step()
    found = {each.kind: each.box for each in detector.find(x_BCHW, min_score=0.3)[0]}
    assert found["spot"] == pytest.approx((10, 8, 22, 20), abs=2.5)
    assert found["bar"] == pytest.approx((4, 30, 40, 36), abs=2.5)


def test_bad_arguments():
    with pytest.raises(OptionsError, match="all different"):
        DETECTORS.build({**SMALL["QueryDetector"], "kinds": ["a", "a"]})
    with pytest.raises(OptionsError, match="num_queries"):
        DETECTORS.build({**SMALL["QueryDetector"], "num_queries": 0})
    with pytest.raises(OptionsError, match="num_layer"):
        DETECTORS.build({**SMALL["QueryDetector"], "num_layer": 2})


class TestParts:
    def test_levels_keep_their_places(self):
        maps = [torch.rand(2, 4, 6, 8), torch.rand(2, 2, 3, 8)]
        levels = Levels(maps, (4, 8))
        for one, other in zip(levels.with_tokens(levels.tokens()).maps, maps, strict=True):
            assert torch.equal(one, other)
        cells = levels.cells(2)
        assert cells[0].tolist() == [2, 2, 8, 8]
        assert cells[-1].tolist() == [20, 12, 16, 16]

    def test_shares_count_the_whole_level(self):
        levels = Levels([torch.rand(1, 3, 5, 2)], (8,))  # 24 x 40 px, of which an image may fill less
        assert levels.shares(torch.tensor([[20.0, 12, 8, 6]])).tolist() == [[pytest.approx([0.5, 0.5, 0.2, 0.25])]]

    def test_a_step_is_in_units_of_the_box(self):
        boxes = torch.tensor([[10.0, 20, 4, 8]])
        assert moved(boxes, torch.zeros(1, 4)).tolist() == boxes.tolist()
        steps = torch.tensor([[0.5, -0.25, 0.0, np.log(2)]])
        assert moved(boxes, steps)[0].tolist() == pytest.approx([12, 18, 4, 16])
        far = moved(boxes, torch.tensor([[0.0, 0, 50, -50]]))
        assert far.isfinite().all()
        torch.testing.assert_close(moved(3 * boxes, steps), 3 * moved(boxes, steps))

    def test_features_of_boxes_differ_and_turn(self):
        boxes = torch.rand(50, 4) * 200 + 1
        features = box_features(boxes)
        assert features.shape == (50, 64)
        distances = torch.cdist(features, features) + 10 * torch.eye(50)
        assert distances.min() > 1e-3
        torch.testing.assert_close(features.square().sum(-1), torch.full((50,), 32.0))


def test_repeats_are_left_out():
    box, near, inside, other = (0, 0, 10, 10), (1, 0, 11, 10), (2, 2, 6, 6), (30, 30, 40, 40)
    findings = [Finding("dust", b, s) for b, s in ((near, 0.5), (box, 0.9), (inside, 0.4), (other, 0.3))]
    assert [each.box for each in without_repeats(findings)] == [box, other]
    assert len(without_repeats([*findings, Finding("text", box, 0.1)])) == 3
    assert without_repeats([]) == []


class Bright(Detector):
    """Finds the rectangle of what is white, or of what a tile shows of it."""

    kinds = ("bright",)

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x_BCHW):
        boxes = torch.zeros(len(x_BCHW), 1, 4)
        logits = torch.full((len(x_BCHW), 1, 1), -20.0)
        height, width = x_BCHW.shape[-2:]
        for index, image in enumerate(x_BCHW):
            rows, columns = (image[0] > 0.9).nonzero(as_tuple=True)
            if len(rows):
                left, right = columns.min().item(), columns.max().item() + 1
                top, bottom = rows.min().item(), rows.max().item() + 1
                boxes[index, 0] = torch.tensor(
                    [
                        (left + right) / 2 / width,
                        (top + bottom) / 2 / height,
                        (right - left) / width,
                        (bottom - top) / height,
                    ]
                )
                logits[index] = 3.0
        return [(logits, boxes)]


@pytest.mark.parametrize(
    ("top", "left", "rows", "columns"),
    [(5, 5, 10, 10), (90, 70, 30, 40), (300, 10, 8, 480), (10, 200, 380, 6), (0, 0, 400, 500), (390, 488, 10, 12)],
)
@pytest.mark.parametrize("tile_px", [128, 200, 1000])
def test_what_seams_cut_is_joined(top, left, rows, columns, tile_px):
    pixels = np.zeros((400, 500, 3), np.uint8)
    pixels[top : top + rows, left : left + columns] = 255
    found = find(Bright(), pixels, tile_px=tile_px)
    assert [each.box for each in found] == [pytest.approx((left, top, left + columns, top + rows), abs=0.1)]


@pytest.mark.parametrize("seed", range(10))
def test_any_place_in_any_size(seed):
    random = np.random.default_rng(seed)
    height, width, tile_px = (int(n) for n in random.integers((20, 20, OVERLAP_PX + 10), (500, 500, 300)))
    top, left = (int(random.integers(side - 2)) for side in (height, width))
    bottom, right = int(random.integers(top + 1, height + 1)), int(random.integers(left + 1, width + 1))
    pixels = np.zeros((height, width), np.float32)
    pixels[top:bottom, left:right] = 1
    assert [each.box for each in find(Bright(), pixels, tile_px=tile_px)] == [
        pytest.approx((left, top, right, bottom), abs=0.1)
    ]


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1), (30, 40, 2), (30, 40, 3), (30, 40, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_kind_of_image(shape, dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = np.zeros(shape, dtype)
    pixels[5:9, 6:20] = top
    (finding,) = find(Bright(), pixels)
    assert finding.box == pytest.approx((6, 5, 20, 9), abs=0.1)


class TestWeights:
    def test_they_come_back(self, block, tmp_path):
        detector = DETECTORS.build(block).eval()
        save_detector(detector, block, tmp_path / "mine.safetensors", dtype=torch.float32)
        loaded = load_detector(tmp_path / "mine.safetensors")
        x_BCHW = torch.rand(1, 3, 32, 32)
        for one, other in zip(detector(x_BCHW), loaded(x_BCHW), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)

    def test_other_files_are_refused(self, tmp_path):
        with pytest.raises(MissingError, match="no shipped detector 'nobody'"):
            load_detector("nobody")
        network = build_model({"type": "RepConvSR", "num_feat": 8, "num_block": 1})
        torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
        with pytest.raises(CheckpointError, match="does not say which detector"):
            load_detector(tmp_path / "net.pth")

    def test_a_detector_restores_nothing(self, block, tmp_path):
        detector = DETECTORS.build(block)
        torch.save({"params": detector.state_dict(), "network": block}, tmp_path / "net.pth")
        with pytest.raises(CheckpointError, match="restores none"):
            load_model(tmp_path / "net.pth")


def test_losses_of_boxes_say_so():
    assert LOSSES.get("SetLoss").compares == "boxes"
