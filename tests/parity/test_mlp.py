"""Encoders and mixers made of perceptrons over positions, against their official code and in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from official import errors, load_official, parameters

from restore.encoders import Classifier, build_encoder, load_published, published_state
from restore.layers.activations import StarReLU
from restore.layers.folding import fold
from restore.layers.mixers import build_mixer
from restore.layers.mixers.mlp.cycle import CycleFC

SMALL = {
    "cyclemlp__small": {"type": "cyclemlp", "dims": [16, 32, 40, 64], "depths": [1, 1, 2, 1]},
    "repmlpnet__small": {
        "type": "repmlpnet", "dims": [16, 32, 64, 128], "depths": [1, 1, 2, 1], "window_sizes": [8, 4, 4, 2],
        "num_sharesets": [1, 2, 4, 8], "compat": True,
    },
    "swin_mlp__small": {
        "type": "swin_mlp", "img_size": 64, "embed_dim": 24, "depths": [2, 2, 2, 2], "num_heads": [2, 4, 8, 16],
        "window_size": 4,
    },
    "amixer_deit__small": {
        "type": "amixer_deit", "img_size": 96, "embed_dim": 48, "depth": 3, "num_heads": 4, "num_maps": 6,
    },
}  # fmt: skip
PARAMETERS = {  # as counted in the official code, with 1000 classes
    "cyclemlp_b1": 15_155_400,
    "cyclemlp_b2": 26_802_504,
    "cyclemlp_b3": 38_385_720,
    "cyclemlp_b4": 51_796_552,
    "cyclemlp_b5": 75_747_280,
    "repmlpnet_t224": 38_293_608,
    "repmlpnet_t256": 58_687_848,
    "repmlpnet_b224": 68_242_712,
    "repmlpnet_b256": 96_447_512,
    "repmlpnet_d256": 86_887_648,
    "repmlpnet_l256": 117_641_560,
    "swin_mlp_tiny_c24": 20_386_632,
    "swin_mlp_tiny_c12": 21_152_072,
    "swin_mlp_tiny_c6": 22_682_952,
    "swin_mlp_base": 60_659_416,
    "identityformer_s12": 11_891_712,
    "identityformer_s24": 21_341_464,
    "identityformer_s36": 30_791_216,
    "identityformer_m36": 56_077_168,
    "identityformer_m48": 73_346_056,
    "amixer_deit_small": 21_927_128,
    "amixer_tiny": 25_757_586,
    "amixer_small": 45_842_226,
    "amixer_base": 81_444_396,
}


@pytest.mark.parametrize("name", SMALL)
def test_agrees_with_official_code(name, shared, fill):
    found = errors(shared, fill, name, SMALL[name])
    assert "output_logits" in found
    assert max(found.values()) <= 1e-5, found


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert parameters(name) == PARAMETERS[name]


def test_folded_repmlpnet_agrees_with_official_injection(shared, fill):
    stored = np.load(shared("fixtures/encoders/repmlpnet__small.npz"))
    classifier = Classifier(build_encoder(SMALL["repmlpnet__small"]), 10).eval()
    load_official(classifier, stored, fill)
    classifier.encoder.normalise = lambda x_BCHW: x_BCHW
    image = torch.from_numpy(stored["input"])
    with torch.no_grad():
        logits = fold(classifier)(image.float() / 255 if image.dtype == torch.uint8 else image).numpy()
    assert np.abs(logits - stored["output_folded_logits"]).max() <= 1e-5 * np.abs(logits).max()


def drawn(options: dict, dim: int) -> torch.nn.Module:
    """A mixer in float64 and evaluation mode, with random weights and statistics."""
    torch.manual_seed(0)
    mixer = build_mixer(options, dim).double().eval()
    for name, tensor in mixer.state_dict().items():
        if tensor.is_floating_point() and "offset" not in name:
            tensor.copy_(torch.rand_like(tensor) + 0.5 if name.endswith("running_var") else torch.randn_like(tensor))
    return mixer


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_cycle_layer_is_a_shift_of_each_channel_and_a_linear_map(kernel_size, axis):
    torch.manual_seed(0)
    layer = CycleFC(7, kernel_size, axis).double()
    x_BHWC = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    radius = kernel_size // 2
    padded = F.pad(x_BHWC, (0, 0, radius, radius, radius, radius))
    shifted = torch.empty_like(x_BHWC)
    for channel in range(7):
        steps = [0, 0]
        steps[axis] = (channel + radius) % kernel_size - radius
        down, across = (radius + step for step in steps)
        shifted[..., channel] = padded[:, down : down + 6, across : across + 5, channel]
    torch.testing.assert_close(layer(x_BHWC), F.linear(shifted, layer.weight, layer.bias), rtol=0, atol=1e-12)


def test_cycle_layers_read_between_positions_by_interpolation():
    layer = CycleFC(4, 3, 0).double()
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
        layer.bias.zero_()
    layer.offset = torch.tensor([0.25, -0.5] * 4, dtype=torch.float64).view(1, -1, 1, 1)
    rows, columns = torch.meshgrid(*(torch.arange(5, dtype=torch.float64),) * 2, indexing="ij")
    x_BHWC = (3 * rows + columns)[None, :, :, None].expand(1, 5, 5, 4)
    expected = x_BHWC + 3 * 0.25 - 0.5
    torch.testing.assert_close(layer(x_BHWC)[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1])


@pytest.mark.parametrize("window_size", [4, [2, 6]])
@pytest.mark.parametrize("compat", [False, True])
def test_repmlp_folds_into_one_matrix(window_size, compat):
    mixer = drawn({"type": "repmlp", "window_size": window_size, "num_sharesets": 3, "compat": compat}, 12)
    x_BHWC = torch.randn(2, 12, 12, 12, dtype=torch.float64)
    folded = fold(mixer)
    assert {name.partition(".")[0] for name, _ in folded.named_parameters()} == {"gp", "fc3"}
    torch.testing.assert_close(folded(x_BHWC), mixer(x_BHWC), rtol=1e-10, atol=1e-10)


def test_windows_of_repmlp_stay_where_they_are():
    mixer, other = (drawn({"type": "repmlp", "window_size": 4, "compat": compat}, 8) for compat in (False, True))
    for each in (mixer, other):  # without what looks at the whole map
        each.gp["fc2"].weight.data.zero_()
    x_BHWC = torch.randn(1, 8, 8, 8, dtype=torch.float64)
    window = x_BHWC[:, 4:, :4]
    torch.testing.assert_close(mixer(window), other(window))
    torch.testing.assert_close(mixer(x_BHWC)[:, 4:, :4], mixer(window))
    assert not torch.allclose(other(x_BHWC)[:, 4:, :4], other(window))


def test_repmlp_reflects_maps_of_other_sizes_up_to_whole_windows():
    mixer = drawn({"type": "repmlp", "window_size": [4, 3]}, 8)
    mixer.gp["fc2"].weight.data.zero_()
    x_BHWC = torch.randn(1, 6, 7, 8, dtype=torch.float64)
    padded = F.pad(x_BHWC.permute(0, 3, 1, 2), (0, 2, 0, 2), mode="reflect").permute(0, 2, 3, 1)
    torch.testing.assert_close(mixer(x_BHWC), mixer(padded)[:, :6, :7])


@pytest.mark.parametrize("shifted", [False, True])
def test_spatial_mlp_is_linear_and_its_heads_are_apart(shifted):
    mixer = drawn({"type": "spatial_mlp", "window_size": 4, "num_heads": 3, "shifted": shifted}, 6)
    mixer.spatial_mlp.bias.data.zero_()
    x, y = torch.randn(2, 1, 7, 9, 6, dtype=torch.float64)
    torch.testing.assert_close(mixer(2 * x - 3 * y), 2 * mixer(x) - 3 * mixer(y))
    changed = x.clone()
    changed[..., 2:4] += 1
    moved = (mixer(changed) - mixer(x)).abs().amax(dim=(0, 1, 2))
    assert moved[[0, 1, 4, 5]].max() == 0
    assert moved[2:4].min() > 0


def test_shifted_windows_of_spatial_mlp_begin_outside_the_map():
    mixer = drawn({"type": "spatial_mlp", "window_size": 4, "shifted": True}, 2)
    x = torch.randn(1, 8, 8, 2, dtype=torch.float64)
    changed = x.clone()
    changed[:, :2] += 1
    moved = (mixer(changed) - mixer(x)).abs().amax(dim=(0, 2, 3))
    assert moved[:2].min() > 0
    assert moved[2:].max() == 0


@pytest.mark.parametrize("mode", ["linear", "mlp"])
def test_channels_of_a_set_share_their_matrices(mode):
    mixer = drawn({"type": "spatial_mlp", "window_size": 4, "mode": mode}, 5)
    x = torch.randn(1, 8, 4, 5, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(mixer(x[..., order]), mixer(x)[..., order])


def test_the_gate_is_open_at_first_and_closes():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "spatial_mlp", "window_size": 4, "mode": "gated", "expansion": 6}, 8).double()
    x = torch.randn(1, 8, 4, 8, dtype=torch.float64)
    value = F.gelu(mixer.expand(x)).chunk(2, dim=-1)[0]
    assert (mixer.mix(x) - value).abs().max() <= 1e-3 * value.abs().max()
    for parameter in mixer.spatial_mlp.parameters():
        parameter.data.zero_()
    assert not mixer.mix(x).any()


ADAPTIVE = {"type": "adaptive_mixing", "num_heads": 2, "window_size": 4, "num_maps": 3}


def test_adaptive_weights_of_equal_tokens_depend_on_the_way_between_them():
    mixer = drawn(ADAPTIVE, 6)
    token = torch.randn(1, 1, 6, dtype=torch.float64)
    scores_NM = mixer.scores(token.expand(1, 16, 6), 4, 4)[0, 0]
    places = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"), dim=-1).view(16, 2)
    by_way: dict[tuple[int, ...], float] = {}
    for n in range(16):
        for m in range(16):
            way = tuple((places[n] - places[m]).tolist())
            assert by_way.setdefault(way, scores_NM[n, m].item()) == pytest.approx(scores_NM[n, m].item(), abs=1e-12)
    assert len(set(by_way.values())) == 49
    small_NM = mixer.scores(token.expand(1, 6, 6), 2, 3)[0, 0]  # of a map smaller than a window
    assert small_NM[5, 0].item() == pytest.approx(by_way[1, 2], abs=1e-12)


def test_adaptive_weights_sum_to_one():
    mixer = drawn(ADAPTIVE, 6)
    with torch.no_grad():
        mixer.pre_proj.weight.zero_()
        expected = mixer.post_proj(mixer.pre_proj.bias)
    output = mixer(torch.randn(2, 8, 4, 6, dtype=torch.float64))
    torch.testing.assert_close(output, expected.expand_as(output))


def test_shifted_adaptive_windows_do_not_see_round_the_border_but_the_official_ones_do():
    x_BHWC = torch.randn(1, 12, 12, 6, dtype=torch.float64)
    changed = x_BHWC.clone()
    changed[:, 0] += 1
    for compat in (False, True):
        mixer = drawn({**ADAPTIVE, "shifted": True, "compat": compat}, 6)
        moved = (mixer(changed) - mixer(x_BHWC)).abs().amax(dim=(0, 2, 3))
        assert moved[:2].min() > 1e-3
        assert moved[2:10].max() <= 1e-12
        assert (moved[10:].max() > 1e-3) == compat


def test_without_a_shift_compat_changes_nothing():
    x_BHWC = torch.randn(1, 7, 9, 6, dtype=torch.float64)
    plain, other = (drawn({**ADAPTIVE, "compat": compat}, 6) for compat in (False, True))
    assert torch.equal(plain(x_BHWC), other(x_BHWC))


def test_published_tables_of_amixer_are_known():
    encoder = build_encoder({"type": "amixer", "embed_dim": 12, "depths": [1, 1, 1, 1]})
    state = published_state(encoder)
    index = "layers.0.blocks.0.spatial_mixer.relative_position_index"
    load_published(encoder, {**state, index: torch.zeros(49, 49), "layers.0.attn_mask": torch.zeros(64, 49, 49)})
    assert {"layers.2.downsample.proj.bias", "layers.3.blocks.0.gamma2", "patch_embed.norm.weight"} <= {*state}


@pytest.mark.parametrize(
    ("size", "frozen"), [("s12", 235_298), ("s24", 470_596), ("s36", 705_894), ("m36", 705_894), ("m48", 941_192)]
)
def test_randformer_has_matrices_besides_that_are_not_learned(size, frozen):
    """The official code counts them as parameters without gradients; here they are buffers."""
    name = f"randformer_{size}"
    assert parameters(name) == PARAMETERS[f"identityformer_{size}"]
    with torch.device("meta"):
        buffers = dict(build_encoder(name).named_buffers())
    assert sum(each.numel() for key, each in buffers.items() if key.endswith("random_matrix")) == frozen
    assert all("random_matrix" in key for key in buffers if not key.startswith("_"))


@pytest.mark.parametrize("name", ["identityformer", "randformer"])
def test_metaformer_baselines_are_those_of_timm_under_official_keys(name):
    import timm.models.metaformer as reference

    torch.manual_seed(0)
    options = {"dims": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
    grids = {} if name == "identityformer" else {"grids": [None, None, 4, 2]}
    classifier = Classifier(build_encoder({"type": name, **options, **grids}), 10).eval()
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter, std=0.3)

    class Random(torch.nn.Module):
        def __init__(self, dim, **_):
            super().__init__()
            side = 4 if dim == 24 else 2
            self.random_matrix = torch.nn.Parameter(torch.zeros(side**2, side**2))

        def forward(self, x_BCHW):
            return (self.random_matrix @ x_BCHW.flatten(2).transpose(1, 2)).transpose(1, 2).view(x_BCHW.shape)

    mixers = [torch.nn.Identity] * 4 if name == "identityformer" else [torch.nn.Identity] * 2 + [Random] * 2
    model = reference.MetaFormer(
        num_classes=10, token_mixers=mixers, norm_layers=reference.GroupNorm1NoBias, use_mlp_head=False, **options
    ).eval()
    model.load_state_dict(reference.checkpoint_filter_fn(published_state(classifier), model))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), model(2 * x - 1), rtol=0, atol=1e-4)


def test_positions_of_identityformer_may_stand_anywhere():
    torch.manual_seed(0)
    block = build_encoder({"type": "identityformer", "dims": [8, 8, 8, 8]}).stages[2][0]
    x_BHWC, order = torch.randn(2, 4, 5, 8), torch.randperm(20)

    def moved(x_BHWC):
        return x_BHWC.flatten(1, 2)[:, order].view(x_BHWC.shape)

    torch.testing.assert_close(block(moved(x_BHWC)), moved(block(x_BHWC)))
    with torch.no_grad():
        block.ffn.fc2.weight.zero_()
        block.norm1.weight.zero_()
    torch.testing.assert_close(block(x_BHWC), x_BHWC)  # what is left are shortcuts, whose factors start at 1


def test_randformer_mixes_by_rows_that_sum_to_one():
    matrix = build_encoder({"type": "randformer", "depths": [1, 1, 1, 1]}).stages[3][0].mixer.random_matrix
    assert matrix.min() > 0
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(49))


def test_star_relu_of_noise_can_be_noise():
    activation, noise = StarReLU(), torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        activation.scale.fill_(1.25**-0.5)
        activation.bias.fill_(-0.5 * 1.25**-0.5)
        found = activation(noise)
    assert found.mean().abs() < 5e-3
    assert found.var() == pytest.approx(1, abs=2e-2)
