"""The contract of mixers, held against every registered one."""

from __future__ import annotations

import math

import pytest
import torch

from restore.analysis.cost import cost_of
from restore.layers.mixers import Mixer, build_mixer
from restore.networks.metaformer import MetaFormerRestorer
from restore.registry import MIXERS

DIM = 24
SMALL = {  # options that make a mixer small enough to test; all others are tested as they are
    "window": {"num_heads": 2, "window_size": 4},
    "shifted_window": {"num_heads": 2, "window_size": 4},
    "stripe": {"num_heads": 2, "window_size": [2, 4], "shifted": True},
    "channel": {"num_heads": 2},
    "reattention": {"num_heads": 2},
    "refined": {"num_heads": 2},
    "conv_modulation": {"kernel_size": 5},
    "large_kernel": {"kernel_size": 7, "small_size": 3},
    "global_filter": {"filter_size": 6},
    "attention": {"num_heads": 2},
    "adaptive_mixing": {"num_heads": 2, "window_size": 4, "num_maps": 3, "shifted": True},
    "afno": {"num_blocks": 2},
    "knn_graph": {"num_neighbours": 4},
    "context_cluster": {"num_heads": 2, "head_dim": 6, "num_folds": 2},
    "repmlp": {"window_size": [4, 3], "num_sharesets": 2},
    "talking_heads": {"num_heads": 2},
    "class_attention": {"num_heads": 2},
    "cosine_window": {"num_heads": 2, "window_size": 4},
    "shifted_cosine_window": {"num_heads": 2, "window_size": 4},
    "semantic_tokens": {"num_tokens": 5, "recurrent": True},
    "resized_tokens": {"num_tokens": 4, "side": 5},
    "random": {"grid_px": 4},
    "outlook": {"num_heads": 2},
    "lsra": {"num_heads": 2, "window_size": 4, "kernel_size": 5, "dynamic": True},
    "linformer": {"num_heads": 2, "side": 3},
    "lsh": {"num_heads": 2, "num_buckets": 4, "chunk_size": 5},
    "deformable": {"num_heads": 2, "num_points": 3, "num_levels": 2},
    "spatial_mlp": {"window_size": 4, "num_heads": 2, "shifted": True},
}


def build(name: str) -> Mixer:
    torch.manual_seed(0)
    return MIXERS.build({"type": name, **SMALL.get(name, {})}, DIM).eval()


def sizes(mixer: Mixer) -> list[tuple[int, int]]:
    multiple = mixer.size_multiple
    return [(rows * multiple[0], columns * multiple[1]) for rows, columns in ((1, 1), (3, 2), (2, 5))]


def whole(mixer: Mixer) -> tuple[int, int]:
    """A size that `mix` itself is given."""
    return sizes(mixer)[1] if mixer.grid_px is None else (mixer.grid_px, mixer.grid_px)


@pytest.mark.parametrize("name", MIXERS.names())
def test_shape_stays_and_gradients_flow(name):
    mixer = build(name).train()
    for size in sizes(mixer):
        x = torch.randn(2, *size, DIM, requires_grad=True)
        output = mixer(x)
        assert output.shape == x.shape
        output.square().mean().backward()
        assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())


@pytest.mark.parametrize("name", MIXERS.names())
def test_sizes_that_do_not_fit_are_refused(name):
    mixer = build(name)
    rows, columns = mixer.size_multiple
    if (rows, columns) == (1, 1):
        assert mixer(torch.randn(1, 1, 1, DIM)).shape == (1, 1, 1, DIM)
        return
    with pytest.raises(ValueError, match=f"multiples of {rows}.*, given {rows + 1} x {columns}"):
        mixer(torch.randn(1, rows + 1, columns, DIM))


@pytest.mark.parametrize("name", MIXERS.names())
def test_nothing_reaches_further_than_declared(name):
    mixer = build(name)
    multiple = math.lcm(*mixer.size_multiple)
    side = -(-32 // multiple) * multiple
    torch.manual_seed(1)
    x = torch.randn(1, side, side, DIM)
    row, column = 13, 17
    changed = x.clone()
    changed[0, row, column] += 1
    with torch.no_grad():
        moved = (mixer(changed) - mixer(x)).abs().amax(dim=-1)[0]
    distance = torch.maximum((torch.arange(side) - row).abs()[:, None], (torch.arange(side) - column).abs()[None])
    assert moved[row, column] > 0
    if mixer.halo_px is not None:
        assert moved[distance > mixer.halo_px].max() <= 1e-5
        assert mixer.halo_px == 0 or moved[distance > 0].max() > 1e-5


@pytest.mark.parametrize("name", MIXERS.names())
def test_folded_it_is_the_same(name, assert_folds):
    mixer = build(name)
    assert_folds(mixer, torch.randn(2, *sizes(mixer)[1], DIM))


FORMULAS = {  # multiply-adds of a mixer for each position of a map of N
    "identity": lambda mixer, N: 0,
    "pooling": lambda mixer, N: 0,
    "separable_conv": lambda mixer, N: mixer.inner_dim * (2 * DIM + 7**2),
    "gated_conv": lambda mixer, N: mixer.inner_dim * (3 * DIM + 7**2),
    "channel": lambda mixer, N: DIM * (4 * DIM + 27 + 2 * DIM // 2),
    "window": lambda mixer, N: DIM * (4 * DIM + 2 * 4**2),
    "shifted_window": lambda mixer, N: DIM * (4 * DIM + 2 * 4**2),
    "stripe": lambda mixer, N: DIM * (4 * DIM + 2 * 8 + 9),
    "attention": lambda mixer, N: DIM * (4 * DIM + 2 * N),
}


@pytest.mark.parametrize("name", list(FORMULAS))
def test_cost_is_that_of_its_formula(name):
    mixer = build(name)
    height, width = sizes(mixer)[1]
    cost = cost_of(mixer, torch.randn(1, height, width, DIM))
    assert cost.macs == height * width * FORMULAS[name](mixer, height * width)


@pytest.mark.parametrize("name", MIXERS.names())
def test_bfloat16_is_close(name):
    mixer = build(name)
    x = torch.randn(1, *sizes(mixer)[1], DIM)
    with torch.no_grad():
        full = mixer(x)
        with torch.autocast("cpu", torch.bfloat16):
            low = mixer(x).float()
    assert (low - full).abs().mean() <= 0.02 * full.abs().max()


@pytest.mark.parametrize("name", MIXERS.names())
def test_images_of_a_batch_do_not_meet(name):
    mixer = build(name)
    x = torch.randn(3, *sizes(mixer)[1], DIM)
    with torch.no_grad():
        assert torch.allclose(mixer(x), torch.cat([mixer(each[None]) for each in x]), atol=1e-5)


@pytest.mark.parametrize("name", MIXERS.names())
def test_the_map_is_left_as_it_is(name):
    mixer = build(name)
    x = torch.randn(1, *sizes(mixer)[1], DIM)
    before = x.clone()
    with torch.no_grad():
        mixer(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", MIXERS.names())
def test_state_dict_round_trip(name):
    first, second = build(name), MIXERS.build({"type": name, **SMALL.get(name, {})}, DIM).eval()
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, *sizes(first)[1], DIM)
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("name", MIXERS.names())
def test_in_evaluation_a_mixer_is_a_function_of_its_input_and_its_state(name):
    torch.manual_seed(1)
    first = MIXERS.build({"type": name, **SMALL.get(name, {})}, DIM)
    torch.manual_seed(2)
    second = MIXERS.build({"type": name, **SMALL.get(name, {})}, DIM).eval()
    x = torch.randn(2, *sizes(first)[1], DIM)
    with torch.no_grad():
        first.train()(x)
        first.eval()
        second.load_state_dict(first.state_dict())
        outputs = []
        for mixer in (first, second, first):
            torch.manual_seed(len(outputs))
            outputs.append(mixer(x))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("name", MIXERS.names())
def test_what_is_mixed_is_normed_and_projected_by_the_base(name):
    mixer = build(name)
    x = torch.randn(1, *whole(mixer), DIM)
    with torch.no_grad():
        mixed = mixer.mix(x)
        assert mixed.shape == (*x.shape[:3], mixer.inner_dim)
        proj = mixer.projection() or torch.nn.Identity()
        assert torch.equal(mixer(x), proj(mixed))
        mixer.inner_norm = torch.nn.LayerNorm(mixer.inner_dim)
        assert torch.equal(mixer(x), proj(torch.nn.functional.layer_norm(mixed, (mixer.inner_dim,))))


@pytest.mark.parametrize("name", MIXERS.names())
def test_large_outputs_do_not_overflow_in_float16(name):
    mixer = build(name)
    if mixer.projection() is None:
        pytest.skip("nothing is projected")
    x = torch.randn(1, *whole(mixer), DIM)
    with torch.no_grad():
        mix, largest = mixer.mix, mixer.mix(x).abs().max()
        mixer.mix = lambda x: mix(x) * (1e3 / largest)
        mixer.projection().weight.mul_(2e5 / mixer(x).abs().max())
        full = mixer(x)
        with torch.autocast("cpu", torch.float16):
            half = mixer(x)
    assert half.dtype == torch.float32
    assert full.abs().max() > 65504
    assert torch.allclose(half, full, atol=0.01 * full.abs().max())


def test_the_mixer_of_the_documentation_keeps_the_contract(run_example, monkeypatch):
    monkeypatch.setattr(MIXERS, "_components", dict(MIXERS._components))
    run_example("a mixer")
    for check in (
        test_shape_stays_and_gradients_flow,
        test_nothing_reaches_further_than_declared,
        test_bfloat16_is_close,
        test_images_of_a_batch_do_not_meet,
        test_the_map_is_left_as_it_is,
        test_state_dict_round_trip,
        test_in_evaluation_a_mixer_is_a_function_of_its_input_and_its_state,
        test_what_is_mixed_is_normed_and_projected_by_the_base,
        test_large_outputs_do_not_overflow_in_float16,
    ):
        check("depthwise")
    network = MetaFormerRestorer(mixers=["depthwise", "channel"], embed_dim=12, depths=[2])
    assert network(torch.rand(1, 3, 5, 7)).shape == (1, 3, 5, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXERS.names())
def test_compiles_into_one_graph(name):
    mixer = build(name)
    x = torch.randn(1, *sizes(mixer)[1], DIM)
    with torch.no_grad():
        expected = mixer(x)
        assert torch.allclose(torch.compile(mixer, backend="eager", fullgraph=True)(x), expected, atol=1e-5)


def test_unshifted_windows_are_independent():
    mixer = MIXERS.build({"type": "window", "num_heads": 2, "window_size": 4}, DIM).eval()
    x = torch.randn(1, 12, 12, DIM)
    changed = x.clone()
    changed[:, 4:8, 4:8] = torch.randn(1, 4, 4, DIM)
    with torch.no_grad():
        moved = (mixer(changed) - mixer(x)).abs().amax(dim=-1)[0] > 0
    assert moved[4:8, 4:8].all()
    assert moved.sum() == 16


def test_shifted_windows_do_not_see_round_the_border():
    mixer = MIXERS.build({"type": "shifted_window", "num_heads": 2, "window_size": 4}, DIM).eval()
    x = torch.randn(1, 12, 12, DIM)
    changed = x.clone()
    changed[:, 0] += 1
    with torch.no_grad():
        moved = (mixer(changed) - mixer(x)).abs().amax(dim=(0, 2, 3))
    assert moved[:2].min() > 0
    assert moved[4:].max() <= 1e-5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("window", {"num_heads": 5}, "multiple of num_heads"),
        ("stripe", {"num_heads": 5}, "twice num_heads"),
        ("channel", {"num_heads": 7}, "multiple of num_heads"),
        ("pooling", {"kernel_size": 4}, "odd"),
        ("window", {"num_heads": 0}, "num_heads is 0: must be greater than 0"),
        ("stripe", {"window_size": [0, 4]}, r"window_size is \[0, 4\]"),
        ("channel", {"num_heads": -1}, "num_heads is -1"),
        ("gated_conv", {"expansion": 0.01}, r"int\(dim \* expansion\) is 0"),
        ("cycle_fc", {"kernel_size": 2}, "odd"),
        ("repmlp", {"num_sharesets": 5}, "multiple of num_sharesets"),
        ("repmlp", {"kernel_sizes": [1, 2]}, "odd"),
        ("spatial_mlp", {"num_heads": 5}, "multiple of num_heads"),
        ("adaptive_mixing", {"num_heads": 5}, "multiple of num_heads"),
        ("afno", {"num_blocks": 5}, "multiple of num_blocks"),
        ("knn_graph", {"num_neighbours": 0}, "num_neighbours is 0"),
        ("context_cluster", {"num_centres": 0}, "num_centres is 0"),
    ],
)
def test_impossible_options_say_why(name, options, message):
    with pytest.raises(ValueError, match=message):
        MIXERS.build({"type": name, **options}, DIM)


class Odd(Mixer):
    """Says nothing and does something else."""

    def __init__(self, dim: int = DIM, *, give=lambda x_BHWC: x_BHWC, **declared):
        super().__init__(dim, **declared)
        self.give = give

    def mix(self, x_BHWC):
        return self.give(x_BHWC)


MISTAKES = {
    "channels first": (lambda x: x.permute(0, 3, 1, 2), r"\(1, 24, 6, 4\)"),
    "one value for the whole map": (lambda x: x.mean((1, 2), keepdim=True), r"\(1, 1, 1, 24\)"),
    "one channel": (lambda x: x[..., :1], r"\(1, 6, 4, 1\)"),
    "no padding": (lambda x: x[:, 1:-1, 1:-1], r"\(1, 4, 2, 24\)"),
    "two maps": (lambda x: (x, x), "tuple"),
    "nothing": (lambda x: None, "NoneType"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_another_shape_is_found(mistake):
    give, found = MISTAKES[mistake]
    assert Odd()(torch.zeros(1, 6, 4, DIM)).shape == (1, 6, 4, DIM)
    with pytest.raises(AssertionError, match=rf"Odd\.mix made {found} of a map \(1, 6, 4, 24\)"):
        Odd(give=give)(torch.zeros(1, 6, 4, DIM))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"size_multiple": 0}, "size_multiple is 0"),
        ({"size_multiple": (2, 0)}, r"size_multiple is \[2, 0\]"),
        ({"halo_px": -1}, "halo_px is -1"),
        ({"dim": 0}, "dim is 0"),
        ({"inner_dim": 0}, "inner_dim is 0"),
        ({"grid_px": 0}, "grid_px is 0"),
        ({"grid_px": 4, "size_multiple": 4}, "grid_px or size_multiple"),
    ],
)
def test_declarations_that_cannot_be_are_refused(declared, message):
    with pytest.raises(ValueError, match=message):
        Odd(**declared)


def test_a_mixer_takes_the_channels_of_the_map():
    with pytest.raises(TypeError, match=r"Deaf\.__init__ does not take dim"):

        class Deaf(Mixer):
            def __init__(self, channels: int):
                super().__init__(channels)


class NoMixer(torch.nn.Module):
    def __init__(self, dim: int):
        super().__init__()


class Headless(Odd):
    def __init__(self, dim: int):
        self.dim = dim


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (NoMixer, "NoMixer is registered as a mixer but does not derive from Mixer"),
        (Headless, r"Headless\.__init__ does not call super\(\)\.__init__"),
    ],
)
def test_what_breaks_the_contract_is_refused_when_it_is_built(component, message, monkeypatch):
    monkeypatch.setattr(MIXERS, "_components", MIXERS._components | {"mine": component})
    with pytest.raises(TypeError, match=message):
        build_mixer("mine", DIM)
