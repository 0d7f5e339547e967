"""Optimizers by name, with the fused kernel where there is one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from restore.errors import OptionsError
from restore.registry import OPTIMIZERS
from restore.training.optimizers import build_optimizer


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adamax", "SGD", "ASGD", "RMSprop", "Rprop"])
def test_basicsr_names_train(network, batches, make_trainer, name):
    make_trainer(network, optimizer={"type": name, "lr": 1e-3}, total_iter=2).fit(batches(2))
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_numbers_may_be_text_and_pairs_lists(network):
    optimizer = build_optimizer({"type": "Adam", "lr": "2e-4", "betas": [0.9, 0.99]}, network)
    assert optimizer.defaults["lr"] == 2e-4
    assert tuple(optimizer.defaults["betas"]) == (0.9, 0.99)


def test_the_fused_kernel_is_the_default_and_can_be_refused(network):
    assert build_optimizer({"type": "AdamW", "lr": 1e-3}, network).defaults["fused"]
    assert not build_optimizer({"type": "AdamW", "lr": 1e-3, "foreach": True}, network).defaults["fused"]
    assert "fused" not in build_optimizer({"type": "Adamax", "lr": 1e-3}, network).defaults


def test_frozen_parameters_are_left_out(network):
    network.first.requires_grad_(False)
    count = sum(len(group["params"]) for group in build_optimizer({"type": "SGD", "lr": 1}, network).param_groups)
    assert count == len(list(network.parameters())) - 2


@pytest.mark.parametrize("block", [{"type": "Adam", "lr": 1, "beta": 1}, {"type": "Adamm", "lr": 1}, {"lr": 1}])
def test_mistakes_are_named(network, block):
    with pytest.raises(OptionsError, match=r"betas|Adam|train\.optim_g\.type"):
        build_optimizer(block, network)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"type": "AdaHessian", "lr": 1e-3}, r"optim_g\.type: AdaHessian cannot train this network: RuntimeError"),
        ({"type": "AdaShift", "lr": 1e-3}, r"AdaShift cannot .* \(its state holds more than numbers and tensors"),
        ({"type": "DeMo", "lr": 1e-3}, "DeMo cannot train"),
    ],
    ids=["second_derivatives", "objects_in_its_state", "matrices_alone"],
)
def test_what_cannot_train_or_be_resumed_is_known_before(network, block, message):
    pytest.importorskip("pytorch_optimizer")
    before = torch.get_rng_state()
    with pytest.raises(OptionsError, match=message):
        build_optimizer(block, network)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_library_is_not_imported_for_torchs_own():
    program = (
        "import sys; from restore.registry import OPTIMIZERS; OPTIMIZERS.get('AdamW'); print('pytorch_optimizer' in "
        "sys.modules, 'Lion' in OPTIMIZERS, 'pytorch_optimizer' in sys.modules)"
    )
    pytest.importorskip("pytorch_optimizer")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]


def test_the_library_of_optimizers(network, batches, make_trainer):
    pytest.importorskip("pytorch_optimizer")
    assert {"Lion", "AdEMAMix", "SOAP"} <= set(OPTIMIZERS)
    make_trainer(network, optimizer={"type": "Lion", "lr": 1e-4}, total_iter=2).fit(batches(2))
