"""Patches of a random size in training, chosen when images are judged."""

from __future__ import annotations

import pytest
import torch
from training_runs import judge_option_file, resumed_bit_by_bit

from restore.errors import OptionsError
from restore.layers.flexible_patches import FlexiblePatches
from restore.metrics import triq
from restore.quality import build_quality, load_quality
from restore.quality.loading import save_quality

VIT = {
    "type": "flexivit",
    "embed_dim": 12,
    "depth": 1,
    "num_heads": 2,
    "patch_size": 8,
    "patch_sizes": [4, 8, 16],
    "stored_patch_px": 8,
    "stored_grid": 3,
    "out_indices": [-1],
}
JUDGE = {"type": "TRIQ", "encoder": VIT, "num_layers": 1, "width": 8, "num_heads": 2, "ffn_width": 8, "grid": [3, 4],
         "dropout": 0.0}  # fmt: skip


def judge():
    torch.manual_seed(0)
    return build_quality(JUDGE)


def picture(*size):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


def test_sizes_are_drawn_in_training_and_fixed_in_evaluation():
    model, image, seen = judge(), picture(32, 48), []
    forward = FlexiblePatches.forward

    def watched(self, x_BCHW, patch_px=None):
        seen.append(patch_px or self.patch_px)
        return forward(self, x_BCHW, patch_px)

    model.encoder.patch_embed.forward = watched.__get__(model.encoder.patch_embed)
    torch.manual_seed(0)
    for _ in range(30):
        assert model(image).shape == (1, 5)
    assert set(seen) == {4, 8, 16}
    seen.clear()
    model.eval()
    model(image)
    assert seen == [8]


@pytest.mark.parametrize("patch_px", [4, 5, 8, 16])
def test_the_size_is_chosen_when_images_are_judged(tmp_path, patch_px):
    path, image = tmp_path / "judge.safetensors", picture(32, 48)
    save_quality(judge(), JUDGE, path, dtype=torch.float32)
    chosen = load_quality(str(path), patch_px=patch_px)
    rebuilt = build_quality({**JUDGE, "encoder": {**VIT, "patch_size": patch_px}})
    rebuilt.load_state_dict(load_quality(str(path)).state_dict())
    assert chosen.encoder.strides == (patch_px,)
    torch.testing.assert_close(chosen.judge(image), rebuilt.judge(image))
    torch.testing.assert_close(torch.as_tensor(triq(image, weights=str(path), patch_px=patch_px)), chosen.judge(image))
    usual = load_quality(str(path)).judge(image)
    assert torch.equal(chosen.judge(image), usual) == (patch_px == 8)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_judge_says_the_same_of_enlarged_patches(factor):
    """Patches that grow with the image have the same embeddings: PI-resizing is exact there."""
    torch.manual_seed(0)
    patches = FlexiblePatches(3, 5, stored_px=4, patch_px=4, others_px=[4 * factor])
    image = picture(8, 12)
    cells = image.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(6, 3, 4, 4)
    larger = torch.nn.functional.interpolate(cells, scale_factor=factor, mode="bilinear", align_corners=False)
    torch.testing.assert_close(patches(larger, 4 * factor), patches(cells), atol=1e-5, rtol=1e-4)


def test_other_encoders_have_one_size():
    with pytest.raises(OptionsError, match=r"patch_px: TRIQ with the encoder 'band_energy' has patches of one size"):
        load_quality("triq_small", patch_px=8)


def test_a_run_goes_on_bit_by_bit(tmp_path):
    path = judge_option_file(tmp_path, JUDGE, {"quality_opt": {"type": "OpinionLoss"}}, total_iter=6)
    assert resumed_bit_by_bit(path, tmp_path / "experiments/tiny", 6)
