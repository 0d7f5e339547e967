"""Dynamic sparsity: how many weights are zero, which ones, and that nothing else has to know of it."""

from __future__ import annotations

import itertools

import pytest
import torch
from training_runs import resumed_bit_by_bit, run

from restore.errors import OptionsError
from restore.inference.export import export_network
from restore.layers.folding import fold
from restore.networks.checkpoint import read_state_dict
from restore.networks.efficient import RLFN
from restore.options import load
from restore.training.sparsity import DynamicSparsity, layer_counts, next_mask
from restore.training.trainer import Callback
from restore.zoo import load_network

LAYERS = ("first.weight", "last.weight")
SPARSE = "train.sparse={sparsity: 0.5, every: 2, drop: 0.5}"


def zeros(state, names=LAYERS):
    return {name: int((state[name] == 0).sum()) for name in names}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("density", [0.05, 0.5, 0.95, 1.0])
def test_a_change_keeps_the_number_and_drops_the_smallest(share, density):
    weight = torch.randn(6, 5, 3, 3, generator=generator())
    mask = torch.rand(weight.shape, generator=generator(1)) < density
    changed = next_mask(weight * mask, mask, share, generator(2))
    assert changed.sum() == mask.sum()
    dropped, begun = mask & ~changed, changed & ~mask
    assert dropped.sum() == begun.sum() == min(int(share * mask.sum()), int((~mask).sum()))
    if 0 < dropped.sum() < mask.sum():
        assert weight[dropped].abs().max() <= weight[mask & changed].abs().min()
    assert torch.equal(changed, next_mask(weight * mask, mask, share, generator(2)))


def test_snip_keeps_the_largest_products_of_the_whole_network():
    weights = {name: torch.randn(4, 5, generator=generator(seed)) for seed, name in enumerate("abc")}
    for seed, weight in enumerate(weights.values(), start=5):
        weight.grad = torch.randn(4, 5, generator=generator(seed)) * seed
    counts = layer_counts(weights, 0.5, "snip")
    products = {name: (weight * weight.grad).abs() for name, weight in weights.items()}
    least = torch.cat([each.flatten() for each in products.values()]).sort(descending=True).values[29]
    assert counts == {name: int((each >= least).sum()) for name, each in products.items()}
    assert sum(counts.values()) == 30
    assert layer_counts(weights, 0.5, "uniform") == dict.fromkeys("abc", 10)


@pytest.mark.parametrize("layers", ["snip", "uniform"])
@pytest.mark.parametrize(
    "optimizer",
    [
        {"type": "Adam", "lr": 1e-2, "weight_decay": 0.1},
        {"type": "SGD", "lr": 1e-2, "momentum": 0.9, "nesterov": True},
    ],
)
def test_zeros_stay_zero_and_their_number_is_kept(network, make_trainer, batches, optimizer, layers):
    sparsity = DynamicSparsity(network, 0.4, every=2, drop=0.5, layers=layers)
    seen = []

    class Watch(Callback):
        def after_iteration(self, trainer):
            masks = {name: mask.clone() for name, mask in sparsity.masks.items()}
            seen.append(masks)
            averaged = dict(trainer.objective.average.network.named_parameters())
            for name, mask in masks.items():
                assert (sparsity.weights[name][~mask] == 0).all()
                assert (averaged[name][~mask] == 0).all()
                moments = trainer.optimizers["g"].state[sparsity.weights[name]].values()
                for value in moments:
                    if isinstance(value, torch.Tensor) and value.shape == mask.shape:
                        assert (value[~mask] == 0).all()

    trainer = make_trainer(network, total_iter=6, optimizer=optimizer, callbacks=[sparsity, Watch()])
    trainer.fit(batches(6))
    counts = [{name: int(mask.sum()) for name, mask in masks.items()} for masks in seen]
    assert all(each == counts[0] for each in counts)
    total = sum(weight.numel() for weight in sparsity.weights.values())
    assert sum(counts[0].values()) == pytest.approx(0.6 * total, abs=1)
    changed = [any(not torch.equal(one[name], two[name]) for name in one) for one, two in itertools.pairwise(seen)]
    assert changed == [True, False, True, False, False]  # after 2 and 4, and not at the end


def test_it_changes_nothing_but_what_it_covers(network):
    assert set(DynamicSparsity(network, 0.5).weights) == set(LAYERS)
    assert set(DynamicSparsity(network, 0.5, only="^last").weights) == {"last.weight"}
    with pytest.raises(OptionsError, match=r"train\.sparse\.only: no convolution .* with 'nothing' in its name"):
        DynamicSparsity(network, 0.5, only="nothing")
    with pytest.raises(OptionsError, match=r"train\.sparse: no convolution or linear map that learns\."):
        DynamicSparsity(torch.nn.PReLU(), 0.5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{sparsity: 1.0}", "expected a number below 1"),
        ("{sparsity: 0.5, only: '('}", r"'\(' is no regular expression"),
        ("{sparsity: 0.5, evry: 3}", "Did you mean 'every'"),
        ("{every: 3}", r"train\.sparse\.sparsity"),
    ],
)
def test_mistakes_in_options(option_file, value, message):
    with pytest.raises(OptionsError, match=message):
        load(option_file, [f"train.sparse={value}"], is_train=True)


def test_a_sparse_run_goes_on_bit_by_bit_and_ships_its_zeros(option_file, tmp_path):
    assert resumed_bit_by_bit(option_file, tmp_path / "experiments/tiny", 6, SPARSE)
    path = tmp_path / "experiments/tiny/models/net_g_latest.pth"
    for group in ("params", "params_ema"):
        state = read_state_dict(path, group)
        layers = [name for name, value in state.items() if name.endswith("weight") and value.ndim > 1]
        found = zeros(state, layers)
        total = sum(state[name].numel() for name in layers)
        assert sum(found.values()) == pytest.approx(0.5 * total, abs=len(layers))
    folded = fold(load_network(path)).state_dict()
    assert zeros(folded, layers) == found


def test_a_dense_run_may_become_sparse(option_file, tmp_path):
    assert run(option_file, "train.total_iter=3") == 0
    assert run(option_file, SPARSE, auto_resume=True) == 0
    state = read_state_dict(tmp_path / "experiments/tiny/models/net_g_latest.pth")
    assert (state["conv_first.weight"] == 0).any()


def test_zeros_are_in_exported_files(tmp_path):
    torch.manual_seed(0)
    network = RLFN(feature_channels=8, num_blocks=1, upscale=2).eval()
    for weight in DynamicSparsity(network, 0.5).weights.values():
        weight.data[torch.rand(weight.shape) < 0.5] = 0
    export_network(network, tmp_path / "network.pt2")
    exported = torch.export.load(tmp_path / "network.pt2").state_dict
    ours = {name: int((value == 0).sum()) for name, value in network.state_dict().items() if value.ndim > 1}
    assert ours == {name: int((exported[name] == 0).sum()) for name in ours}
