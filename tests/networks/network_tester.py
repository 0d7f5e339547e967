"""What every network must do. A test module subclasses `NetworkTester` and names small variants of its network."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
import torch

from restore.networks.checkpoint import infer, load_weights
from restore.registry import NETWORKS
from restore.training.sharding import local, shard

SIZES = [(1, 1), (5, 19), (33, 24)]


class NetworkTester:
    """Sizes, gradients, precision, batches, weights. `variants` are option blocks by name."""

    variants: ClassVar[dict[str, dict]]
    recognised: ClassVar[bool] = True
    without_gradient: ClassVar[tuple[str, ...]] = ()

    def pytest_generate_tests(self, metafunc):
        if "variant" in metafunc.fixturenames:
            metafunc.parametrize("variant", list(self.variants))

    def build(self, variant: str) -> torch.nn.Module:
        torch.manual_seed(0)
        return NETWORKS.build(self.variants[variant]).eval()

    def image(self, network: torch.nn.Module, size: tuple[int, int], batch: int = 1) -> torch.Tensor:
        torch.manual_seed(1)
        return torch.rand(batch, network.spec.in_channels, *size) * network.spec.value_range

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_any_size_forward_and_backward(self, variant, size, precision):
        network = self.build(variant)
        x = self.image(network, size).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = network(x)
        assert output.shape == (1, network.spec.out_channels, *(side * network.spec.scale for side in size))
        assert output.isfinite().all()
        output.float().square().mean().backward()
        assert all(p.grad.isfinite().all() for p in [x, *network.parameters()] if p.grad is not None)
        assert x.grad.abs().max() > 0

    def test_gradients_reach_every_parameter(self, variant):
        network = self.build(variant).train()
        network(self.image(network, (9, 20), batch=2)).square().mean().backward()
        missing = [
            name
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and (parameter.grad is None or not parameter.grad.isfinite().all())
        ]
        assert [name for name in missing if not name.endswith(self.without_gradient or ("/",))] == []

    def test_images_of_a_batch_do_not_meet(self, variant):
        network = self.build(variant)
        x = self.image(network, (17, 24), batch=2)
        with torch.no_grad():
            together, apart = network(x), torch.cat([network(each[None]) for each in x])
        assert torch.allclose(together, apart, atol=1e-5 * network.spec.value_range)

    def test_bfloat16_is_close(self, variant):
        network = self.build(variant)
        x = self.image(network, (24, 24))
        with torch.no_grad():
            full = network(x)
            with torch.autocast("cpu", torch.bfloat16):
                low = network(x).float()
        assert (low - full).abs().mean() <= 0.02 * (full.max() - full.min())

    def test_weights_come_back_and_are_recognised(self, variant):
        network = self.build(variant)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.01)
        state = network.state_dict()
        block = infer(state) if self.recognised else self.variants[variant]
        block = block | {key: self.variants[variant][key] for key in ("num_heads",) if key in self.variants[variant]}
        other = NETWORKS.build(block).eval()
        load_weights(other, state)
        x = self.image(network, (8, 11))
        with torch.no_grad():
            assert torch.equal(network(x), other(x))

    def test_folded_it_is_the_same(self, variant, assert_folds):
        network = self.build(variant)
        assert_folds(network, self.image(network, (9, 20)))

    def test_can_be_split_among_processes(self, variant, process_group):
        """Parameters are whole only while the block that owns them computes, so nobody else may use them."""
        network = self.build(variant)
        x = self.image(network, (9, 20), batch=2)
        network(x).square().mean().backward()
        whole = {name: parameter.grad for name, parameter in network.named_parameters()}
        network.zero_grad()
        shard(network)
        network(x).square().mean().backward()
        split = {name: parameter.grad for name, parameter in network.named_parameters()}
        assert [name for name in split if (split[name] is None) != (whole[name] is None)] == []
        for name in (name for name in whole if whole[name] is not None):
            largest = whole[name].abs().max().item()
            torch.testing.assert_close(local(split[name]), whole[name], rtol=1e-3, atol=1e-5 * largest, msg=name)

    @pytest.mark.slow
    def test_compiles_into_one_graph(self, variant):
        network = self.build(variant)
        x = self.image(network, (24, 24))
        with torch.no_grad():
            expected = network(x)
            assert torch.allclose(torch.compile(network, backend="eager", fullgraph=True)(x), expected, atol=1e-5)


def fixture_error(shared, fill, name: str, rename=None) -> tuple[float, float]:
    """Relative error (root mean square, and largest against the range) of a network against a stored output."""
    stored = np.load(shared(f"fixtures/{name}.npz"))
    block = json.loads(str(stored["config"]))
    task = block.pop("task", None)
    network = NETWORKS.build(rename(block) if rename else block).eval()
    fill.fill_state_dict(network, int(stored["seed"]))
    x = torch.from_numpy(stored["input"])
    with torch.no_grad():
        output = (network(x) if task is None else network(x, task)).numpy()
    wanted = stored["output"]
    assert output.shape == wanted.shape
    return np.linalg.norm(output - wanted) / np.linalg.norm(wanted), np.abs(output - wanted).max() / np.ptp(wanted)


def counts(network_class, **options) -> tuple[int, int]:
    """Parameters and state-dict keys, without allocating either."""
    with torch.device("meta"):
        network = network_class(**options)
    return sum(parameter.numel() for parameter in network.parameters()), len(network.state_dict())
