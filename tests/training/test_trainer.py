"""The loop against a plain one, and everything it may be asked to do."""

from __future__ import annotations

import copy
import os
import signal

import pytest
import torch
from torch import nn

from restore.errors import DataError, TrainingError
from restore.training.trainer import Callback


def plain_loop(network, batches, lr=1e-2, decay=0.9, clip=None):
    """What one would write by hand."""
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    network.train()
    losses = []
    for iteration, batch in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = lr * (0.1 if iteration - 1 >= 3 else 1)
        loss = (network(batch["lq"]) - batch["gt"]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.mul_(decay).add_(value, alpha=1 - decay)
            for mean, value in zip(average.buffers(), network.buffers(), strict=True):
                mean.copy_(value)
        losses.append(loss.item())
    return average, losses


@pytest.mark.parametrize("clip", [None, 0.05])
def test_it_does_what_a_plain_loop_does(network, batches, make_trainer, clip):
    other = copy.deepcopy(network)
    torch.manual_seed(5)
    trainer = make_trainer(network, clip_norm=clip)
    trainer.fit(batches(5))
    torch.manual_seed(5)
    average, losses = plain_loop(other, batches(5), clip=clip)
    for ours, theirs in ((network, other), (trainer.objective.average.network, average)):
        for (name, one), two in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6, msg=name)
    assert trainer.fetch_losses()["l_pix"] == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert trainer.fetch_losses() == {}


def test_accumulated_micro_batches_are_one_batch(network, make_trainer):
    network = nn.Sequential(network.first, network.last, nn.PixelShuffle(2))  # no batch statistics, no dropout
    other = copy.deepcopy(network)
    gt = torch.rand(6, 3, 12, 12)
    whole = {"lq": nn.functional.avg_pool2d(gt, 2), "gt": gt}
    thirds = [{key: value[start : start + 2] for key, value in whole.items()} for start in (0, 2, 4)]
    make_trainer(network, total_iter=3, accumulate=3).fit(thirds * 3)
    make_trainer(other, total_iter=3).fit([whole] * 3)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_losses_are_computed_in_float32(network, batches, make_trainer, dtype):
    seen = []

    class Spy(nn.L1Loss):
        def forward(self, restored, reference):
            seen.append((restored.dtype, reference.dtype))
            return super().forward(restored, reference)

    trainer = make_trainer(network, total_iter=1, dtype=dtype)
    trainer.objective.criteria["pix"] = Spy()
    trainer.fit(batches(1))
    assert seen == [(torch.float32, torch.float32)]


def test_float16_skips_what_overflows_and_remembers_its_scale(batches, make_trainer):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    trainer = make_trainer(network, total_iter=4, dtype=torch.float16, clip_norm=1.0)
    before = copy.deepcopy(network.state_dict())
    trainer.scaler.load_state_dict({**trainer.scaler.state_dict(), "scale": 2.0**60})
    trainer.fit(batches(4))
    assert trainer.scaler.get_scale() == 2.0**56  # gradients of 2^60 are none in float16: halved each time
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    state = trainer.state_dict()
    again = make_trainer(network, total_iter=2, dtype=torch.float16)
    again.load_state_dict(state)
    assert again.scaler.get_scale() == 2.0**56
    again.scaler.load_state_dict({**again.scaler.state_dict(), "scale": 1024.0})
    again.fit(batches(2))
    assert again.scaler.get_scale() == 1024.0
    assert not torch.equal(network[0].weight, before["0.weight"])
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_ending_data_are_an_error(network, batches, make_trainer):
    with pytest.raises(TrainingError, match="the data ended in iteration 3 of 5"):
        make_trainer(network).fit(batches(2))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_iteration(network, batches, make_trainer, number):
    seen = []

    class Interrupt(Callback):
        def after_iteration(self, trainer):
            seen.append((trainer.iteration, trainer.last))
            if trainer.iteration == 2:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    trainer = make_trainer(network, callbacks=[Interrupt()])
    trainer.fit(batches(5))
    assert trainer.interrupted == number.name
    assert seen == [(1, False), (2, False), (3, True)]
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_at_once(network, batches, make_trainer):
    class Impatient(Callback):
        def after_iteration(self, trainer):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    trainer = make_trainer(network, callbacks=[Impatient()])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(batches(5))
    assert trainer.iteration == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_origin(network, batches, make_trainer):
    class Spoiled(nn.Conv2d):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * (float("nan") if self.calls >= 3 else 1)

    network.first = Spoiled(3, 6, 3, padding=1)
    trainer = make_trainer(network)
    with pytest.raises(TrainingError) as raised:
        trainer.fit(batches(5))
    message = str(raised.value)
    assert "iteration 3: l_pix is nan" in message
    assert "networks.g.first (Spoiled)" in message
    assert "2_0.png, 2_1.png" in message
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_bad_inputs_and_bad_parameters_are_told_apart(network, batches, make_trainer):
    bad = next(batches(1))
    bad["gt"][0, 0, 0, 0] = float("inf")
    with pytest.raises(TrainingError, match=r"the batch itself \(gt\)"):
        make_trainer(network).fit([bad])
    with torch.no_grad():
        network.last.bias[0] = float("nan")
    with pytest.raises(TrainingError, match=r"the parameter networks\.g\.last\.bias"):
        make_trainer(network).fit(batches(1))


def test_running_out_of_memory_says_what_to_lower(network, make_trainer):
    def batches():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        yield

    with pytest.raises(TrainingError, match="Lower batch_size_per_gpu"):
        make_trainer(network).fit(batches())


def test_errors_of_the_data_pass_through(network, make_trainer):
    def batches():
        raise DataError("cannot read 'x.png'")
        yield

    with pytest.raises(DataError, match=r"x\.png"):
        make_trainer(network).fit(batches())
