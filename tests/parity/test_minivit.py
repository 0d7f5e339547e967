"""Encoders whose blocks share weights (MiniViT): what is shared, what is not, and what published weights need."""

from __future__ import annotations

import pytest
import torch
from official import parameters

from restore.encoders import build_encoder
from restore.encoders.token.mini_deit import MiniDeiT
from restore.encoders.token.mini_swin import MiniSwin
from restore.encoders.token.vit_forms import ViTForm


def test_mini_deit_without_what_blocks_have_of_their_own_is_a_vit_with_tied_weights():
    torch.manual_seed(0)
    options = {"img_size": 32, "embed_dim": 16, "num_heads": 2, "depth": 6}
    mini = MiniDeiT(num_repeats=3, **options).eval()
    plain = ViTForm(class_token=False, **options).eval()
    state = {key: value for key, value in mini.state_dict().items() if not key.startswith("stack.")}
    for number, block in enumerate(plain.stack):
        tied = mini.stack[number // 3]
        for part in ("mixer", "ffn"):
            block.get_submodule(part).load_state_dict(tied.get_submodule(part).state_dict(), strict=False)
    plain.load_state_dict(
        {key.replace("patch_embed.proj", "patch_embed"): value for key, value in state.items()}, False
    )
    with torch.no_grad():
        for block in plain.stack:
            block.norm1.eps = block.norm2.eps = 1e-6
    plain.norm.eps = 1e-6
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(mini(x)[-1], plain(x)[-1], rtol=0, atol=1e-5)
    torch.testing.assert_close(mini(x)[0], plain.encode_all(x).maps[2], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dim", "num_heads", "depth", "num_repeats"), [(16, 2, 6, 2), (24, 3, 6, 3), (16, 4, 4, 1)])
def test_shared_weights_count_once(dim, num_heads, depth, num_repeats):
    block = {"type": "mini_deit", "embed_dim": dim, "num_heads": num_heads, "depth": depth, "num_repeats": num_repeats}
    of_a_set = 4 * dim**2 + 4 * dim + 8 * dim**2 + 5 * dim
    of_its_own = 4 * dim + 49 * dim // num_heads + 2 * num_heads**2
    around = 196 * dim + 3 * 16**2 * dim + dim + 2 * dim + 10 * dim + 10
    assert parameters(block, 10) == depth // num_repeats * of_a_set + depth * of_its_own + around


@pytest.mark.parametrize("compat", [False, True])
def test_windows_that_are_not_shifted_are_masked_for_published_weights_alone(compat):
    torch.manual_seed(0)
    block = MiniSwin(img_size=64, embed_dim=8, depths=(2,), num_shared=(2,), num_heads=(2,), window_size=4,
                     compat=compat).eval().stages[0][0]  # fmt: skip
    x = torch.randn(1, 8, 12, 8)
    other = x.clone()
    other[0, 5, 9] += 1  # upper left part of the last window of its row, of rows 4 to 7 and columns 8 to 11
    mixing = block.proj_l[0], block.proj_w[0]
    torch.nn.init.zeros_(mixing[1].bias)  # which weighs what softmax left out
    moved = []
    for shifted in (False, True):
        difference = block.attn(other, *mixing, shifted) - block.attn(x, *mixing, shifted)
        moved.append(difference.abs().amax(dim=-1)[0] > 0)
    whole = torch.zeros(8, 12, dtype=torch.bool)
    whole[4:, 8:] = True
    masked = whole.clone()
    masked[6:] = False
    masked[:, 10:] = False
    assert torch.equal(moved[0], masked if compat else whole)
    shifted = torch.zeros(8, 12, dtype=torch.bool)
    shifted[2:6, 6:10] = True
    assert torch.equal(moved[1], shifted)


@pytest.mark.parametrize("name", ["mini_deit", "mini_swin"])
def test_depths_that_no_sharing_fits_are_refused(name):
    wrong = {"depth": 5} if name == "mini_deit" else {"depths": [2, 2, 5, 2]}
    with pytest.raises(ValueError, match="must be a multiple of"):
        build_encoder({"type": name, **wrong})
