"""Models of one size at other sizes are what timm builds for these sizes, with tables resampled."""

from __future__ import annotations

import pytest
import torch

from restore.encoders import build_encoder
from restore.encoders.timm.fitting import UnfitError
from restore.encoders.timm.probe import build, channels_first

SMALL_ONE_SIZE = {  # name: arguments that make it small
    "levit_128s": {"embed_dim": [32, 48, 64], "depth": [1, 1, 1], "num_heads": [2, 2, 2]},
    "coatnet_0_224": {"embed_dim": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "stem_width": [8, 16]},
    "tnt_s_patch16_224": {
        "embed_dim": 32,
        "inner_dim": 8,
        "depth": 3,
        "num_heads_inner": 2,
        "num_heads_outer": 2,
    },
    "cait_xxs24_224": {"embed_dim": 32, "depth": 3, "num_heads": 2},
    "beit_base_patch16_224": {"embed_dim": 32, "depth": 3, "num_heads": 2},
    "vit_relpos_small_patch16_224": {"embed_dim": 32, "depth": 3, "num_heads": 2},
}


LARGE_ONE_SIZE = ("volo_d1_224", "gcvit_xxtiny", "visformer_tiny", "hiera_tiny_224", "pit_ti_224", "botnet26t_256")


@pytest.mark.parametrize(
    "name", [*SMALL_ONE_SIZE, *(pytest.param(large, marks=pytest.mark.slow) for large in LARGE_ONE_SIZE)]
)
def test_a_fitted_model_is_the_one_that_timm_builds_for_the_size(name):
    torch.manual_seed(0)
    given = SMALL_ONE_SIZE.get(name, {})
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    encoder = build_encoder({"type": name, "model_args": given}).eval()
    side, multiple = encoder._fitting._side, encoder.size_multiple
    assert encoder.tile_px is None
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for size in ((2 * multiple, 3 * multiple), (side, side), (multiple, multiple)):
        x = torch.rand(1, 3, *size)
        theirs = build(name, {**arguments, "img_size": size}).eval()
        with torch.no_grad():
            ours = encoder(x)
            state = dict(encoder.model.state_dict())
            for (path, parameter), resample in _tables(encoder, size).items():
                state[f"{path}.{parameter}"] = resample(state[f"{path}.{parameter}"])
            missing, _ = theirs.load_state_dict(state, strict=False)
            expected = [channels_first(each, theirs) for each in theirs(2 * x - 1)]
        assert missing == []
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


def _tables(encoder, size):
    fit = encoder._fitting._fits.get(size)
    return fit.tables if fit else {}


@pytest.mark.parametrize(
    "name", ["mixer_s32_224", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resmlp_12_224", "gmlp_ti16_224"))]
)
def test_matrices_between_tokens_act_on_fewer_tokens_and_keep_constants(name):
    torch.manual_seed(0)
    encoder = build_encoder({"type": name}).eval()
    stride = encoder.strides[-1]
    assert (encoder.tile_px, encoder.size_multiple) == (224, stride)
    assert [encoder.tile_side(side) for side in (64, 224, 256)] == [64, 224, 128]
    with torch.no_grad():
        for block in encoder.blocks():
            for parameter in block.parameters():
                parameter.normal_(std=0.2)
        encoder.forward(torch.rand(1, 3, 64, 96))
        (fit,) = encoder._fitting._fits.values()
    rows, columns = 64 // stride, 96 // stride
    for (path, parameter), resample in fit.tables.items():
        table = encoder.model.get_submodule(path)._parameters[parameter]
        fitted = resample(table)
        if table.ndim == 1:
            torch.testing.assert_close(fitted.mean(), _pooled(table, rows, columns).mean())
        elif fitted.shape[1] == rows * columns:  # from tokens: a constant image has the same sum
            full = table if fitted.shape[0] == table.shape[0] else None
            if full is not None:
                torch.testing.assert_close(fitted.sum(dim=1), full.sum(dim=1), rtol=1e-4, atol=1e-4)


def _pooled(table, rows, columns):
    side = round(len(table) ** 0.5)
    return torch.nn.functional.adaptive_avg_pool2d(table.view(1, 1, side, side), (rows, columns))


def test_a_small_image_does_not_pay_for_a_large_one():
    from torch.utils.flop_counter import FlopCounterMode

    encoder = build_encoder({"type": "mixer_s32_224"}).eval()

    def macs(side):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(torch.rand(1, 3, side, side))
        return counter.get_total_flops()

    macs(64)  # and what fitting costs
    assert macs(64) < 0.3 * macs(224)


def test_a_model_is_itself_again_at_its_own_size():
    encoder = build_encoder({"type": "cait", "model_args": {"embed_dim": 16, "depth": 1, "num_heads": 2}}).eval()
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        before, before_shape = encoder(x), encoder.model.model.pos_embed.shape
        encoder(x[:, :, :64, :80])
        assert encoder.model.model.pos_embed.shape == before_shape
        after = encoder(x)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_gradients_pass_resampled_tables_also_through_recomputed_blocks():
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    arguments = {"embed_dim": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "stem_width": [8, 16]}
    encoder = build_encoder({"type": "coatnet_0_224", "model_args": arguments})
    x, gradients = torch.rand(2, 3, 64, 96), []
    for recomputed in (False, True):
        encoder.zero_grad()
        if recomputed:
            for block in encoder.blocks():
                block.forward = _recomputing(checkpoint, block.forward)
        torch.manual_seed(1)
        sum(each.square().mean() for each in encoder(x)).backward()
        tables = [p for name, p in encoder.named_parameters() if name.endswith("relative_position_bias_table")]
        gradients.append([table.grad.clone() for table in tables])
    assert tables
    assert all(each.any() for each in gradients[0])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def _recomputing(checkpoint, forward):
    return lambda *inputs: checkpoint(forward, *inputs, use_reentrant=False)


def test_tables_of_unknown_build_are_refused():
    from restore.encoders.timm.fitting import _resample

    with pytest.raises(UnfitError, match="how it depends on the size is not known"):
        _resample(".block.strange", torch.Size([4]), torch.Size([9]), 2, (3, 3))


def test_tables_keep_constants_and_ends():
    from restore.encoders.timm.fitting import _resample

    size = (32, 96)
    cases = {
        ".pos_embed": ((1, 197, 3), (1, 1 + 12, 3)),
        ".a.relative_position_bias_table": ((27 * 27 + 3, 2), (3 * 11 + 3, 2)),
        ".a.attention_biases": ((2, 196), (2, 12)),
        ".a.height_rel": ((27, 5), (3, 5)),
    }
    for name, (old, new) in cases.items():
        resample = _resample(name, torch.Size(old), torch.Size(new), 224, size)
        fitted = resample(torch.full(old, 0.7))
        assert fitted.shape == new
        torch.testing.assert_close(fitted, torch.full(new, 0.7))
    distances = torch.arange(27.0)[:, None] - 13
    fitted = _resample(".height_rel", torch.Size([27, 1]), torch.Size([3, 1]), 224, size)(distances)
    torch.testing.assert_close(fitted[:, 0], torch.tensor([-13.0, 0.0, 13.0]))
