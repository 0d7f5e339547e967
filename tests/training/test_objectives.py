"""Objectives: what is compared with what, and who learns when."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from restore.errors import OptionsError
from restore.registry import OBJECTIVES, OPTIMIZERS, SCHEDULERS
from restore.training.mixing import Mixing
from restore.training.objectives import Adversarial, RelativisticAdversarial, Restoration
from restore.training.schedules import RateControl
from restore.training.trainer import Callback, Plan, Trainer

GAN = {"gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1}}
PIXEL = {"pixel_opt": {"type": "L1Loss"}}


@pytest.fixture
def judge():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))


def test_names_of_basicsr_and_its_forks():
    for name in ("SRModel", "SwinIRModel", "HATModel", "ImageCleanModel", "ImageRestorationModel"):
        assert OBJECTIVES.get(name) is Restoration
    assert OBJECTIVES.get("SRGANModel") is Adversarial
    assert OBJECTIVES.get("ESRGANModel") is RelativisticAdversarial


def test_restoration_logs_every_loss_by_its_name(network, batches):
    losses = {**PIXEL, "fft_opt": {"type": "FFTLoss", "loss_weight": 0.05}, "tv_opt": {"type": "WeightedTVLoss"}}
    found = Restoration({"g": network}, losses).losses(next(batches(1)))
    assert list(found) == ["l_pix", "l_fft", "l_tv"]


def test_no_loss_is_an_error(network):
    with pytest.raises(OptionsError, match="no loss"):
        Restoration({"g": network}, {})


@pytest.mark.parametrize(
    ("kind", "losses", "path", "message"),
    [
        (
            Restoration,
            {"gan_opt": {"type": "GANLoss"}},
            "train.gan_opt",
            "needs a discriminator: take model_type SRGAN",
        ),
        (Restoration, {"ldl_opt": {"type": "L1Loss"}}, "train.ldl_opt", "needs a discriminator"),
        (Restoration, {"x_opt": {"type": "PatchContrastiveLoss"}}, "train.x_opt.type", "compares features of patches"),
        (Restoration, {"x_opt": {"type": "L1Loss", "reduction": "none"}}, "train.x_opt.reduction", "mean or sum"),
        (Adversarial, {"gan_opt": {"type": "L1Loss"}}, "train.gan_opt.type", "L1Loss compares images, not a discrim"),
        (Adversarial, {"pixel_opt": {"type": "GANLoss"}}, "train.pixel_opt.type", "not images"),
    ],
)
def test_losses_stand_where_they_are_given_what_they_compare(kind, losses, path, message):
    (problem,) = kind.loss_problems(losses)
    assert problem.path == path
    assert message in str(problem)


def test_total_variation_does_not_look_at_the_reference(network, batches):
    batch = next(batches(1))
    objective = Restoration({"g": network.eval()}, {"tv_opt": {"type": "WeightedTVLoss"}})
    other = {**batch, "gt": torch.zeros_like(batch["gt"])}
    assert torch.equal(objective.losses(batch)["l_tv"], objective.losses(other)["l_tv"])
    assert objective.losses(batch)["l_tv"] > 0


def test_patches_that_are_too_small_for_a_loss_are_named(network, batches):
    objective = Restoration({"g": network}, {"ms_opt": {"type": "MSSSIMLoss"}})
    message = r"datasets\.train\.gt_size: patches of 12x12 px are too small for the loss l_ms: MS-SSIM of 5 scales"
    with pytest.raises(OptionsError, match=message):
        objective.losses(next(batches(1)))


def test_the_average_is_given_images_in_the_range_of_the_network(network, judge, batches):
    network.white = 255
    objective = Adversarial({"g": network.eval(), "d": judge}, {**PIXEL, **GAN, "ldl_opt": {"type": "L1Loss"}})
    objective.keep_average(0.9)
    seen = []
    objective.average.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = next(batches(1))
    objective.losses(batch, "g")
    assert torch.equal(seen[0], 255 * batch["lq"])


def test_relativistic_losses_by_hand(network, judge, batches):
    objective = RelativisticAdversarial({"g": network, "d": judge}, {**PIXEL, **GAN}).eval()
    batch = next(batches(1))
    restored = network(batch["lq"])
    real, fake = judge(batch["gt"]), judge(restored)
    bce = nn.functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    on_real, on_fake = real - fake.mean(), fake - real.mean()
    ours = objective.losses(batch, "g")
    torch.testing.assert_close(ours["l_g_gan"], 0.1 * (bce(on_real, zeros) + bce(on_fake, ones)) / 2)
    torch.testing.assert_close(ours["l_g_pix"], (restored - batch["gt"]).abs().mean())
    ours = objective.losses(batch, "d")
    torch.testing.assert_close(ours["l_d_real"], bce(on_real, ones) / 2)
    torch.testing.assert_close(ours["l_d_fake"], bce(on_fake, zeros) / 2)
    torch.testing.assert_close(ours["out_d_fake"], fake.mean())


def test_each_network_gets_gradients_in_its_own_turn_alone(network, judge, batches):
    objective = Adversarial({"g": network, "d": judge}, {**PIXEL, **GAN}, net_d_init_iters=2, net_d_iters=2)
    assert [objective.turns(iteration) for iteration in range(1, 7)] == [
        ("d",), ("d",), ("d",), ("g", "d"), ("d",), ("g", "d")
    ]  # fmt: skip
    networks = {"g": network, "d": judge}
    optimizers = {
        name: OPTIMIZERS.build({"type": "Adam", "lr": 1e-2}, list(each.parameters())) for name, each in networks.items()
    }
    constant = SCHEDULERS.build({"type": "Constant"})
    changed = []

    class Watch(Callback):
        def after_iteration(self, trainer):
            now = {name: [p.detach().clone() for p in each.parameters()] for name, each in networks.items()}
            changed.append({name for name in networks if not all(map(torch.equal, now[name], before[name]))})
            before.update(now)

    before = {name: [p.detach().clone() for p in each.parameters()] for name, each in networks.items()}
    objective.keep_average(0.9)
    trainer = Trainer(
        objective,
        optimizers,
        {name: RateControl(each, constant) for name, each in optimizers.items()},
        Plan(6),
        callbacks=[Watch()],
    )
    trainer.fit(batches(6))
    assert changed == [{"d"}, {"d"}, {"d"}, {"g", "d"}, {"d"}, {"g", "d"}]
    assert objective.average.num_updates == 2
    assert {"l_g_pix", "l_g_gan", "l_d_real", "l_d_fake", "out_d_real", "out_d_fake"} == set(trainer.fetch_losses())


@pytest.mark.parametrize(
    ("kind", "further", "calls"),
    [
        (Adversarial, {}, 1),
        (RelativisticAdversarial, {}, 2),
        (Adversarial, {"feature_matching_opt": {"type": "FeatureMatchingLoss"}}, 2),
    ],
    ids=["plain", "relativistic", "feature_matching"],
)
def test_real_images_are_judged_for_the_network_only_where_it_looks_at_them(
    network, judge, batches, kind, further, calls
):
    objective = kind({"g": network, "d": judge}, {**PIXEL, **GAN, **further})
    seen = []
    judge.register_forward_hook(lambda *call: seen.append(call))
    objective.losses(next(batches(1)), "g")
    assert len(seen) == calls
    objective.losses(next(batches(1)), "d")
    assert len(seen) == calls + 2


def test_locally_discriminative_learning_needs_the_average(network, judge, batches):
    objective = Adversarial({"g": network, "d": judge}, {**PIXEL, **GAN, "ldl_opt": {"type": "L1Loss"}})
    with pytest.raises(OptionsError, match="ema_decay"):
        objective.losses(next(batches(1)), "g")
    objective.keep_average(0.5)
    assert objective.losses(next(batches(1)), "g")["l_g_ldl"] >= 0


def test_what_adversarial_training_lacks_is_said_at_once(network):
    with pytest.raises(OptionsError) as raised:
        Adversarial({"g": network}, PIXEL)
    assert [problem.path for problem in raised.value.problems] == ["network_d", "train.gan_opt"]


def test_mixup_keeps_pairs_together():
    torch.manual_seed(0)
    gt = torch.rand(4, 3, 8, 8)
    mixed = Mixing(mixup=True)({"lq": gt[..., ::2, ::2] * 0.5, "gt": gt, "gt_path": []})
    torch.testing.assert_close(mixed["lq"], mixed["gt"][..., ::2, ::2] * 0.5)
    assert not torch.equal(mixed["gt"], gt)


def test_cutmix_keeps_pairs_together():
    torch.manual_seed(0)
    lq = torch.rand(4, 3, 8, 8)
    gt = lq.repeat_interleave(2, 2).repeat_interleave(2, 3)
    mixed = [Mixing(cutmix=1)({"lq": lq, "gt": gt}) for _ in range(5)]
    for batch in mixed:
        torch.testing.assert_close(batch["gt"][..., ::2, ::2], batch["lq"])
    assert any(not torch.equal(batch["lq"], lq) for batch in mixed)


def test_cutblur_exchanges_a_rectangle_with_the_reference():
    torch.manual_seed(0)
    lq, gt = torch.zeros(2, 1, 16, 16), torch.ones(2, 1, 16, 16)
    shares = [Mixing(cutblur=1)({"lq": lq, "gt": gt})["lq"].mean().item() for _ in range(20)]
    assert all(0 < share < 1 for share in shares)
    with pytest.raises(OptionsError, match="one size"):
        Mixing(cutblur=1)({"lq": lq[..., ::2], "gt": gt})


def test_some_batches_stay_as_they_are():
    torch.manual_seed(0)
    batch = {"lq": torch.rand(2, 1, 8, 8), "gt": torch.rand(2, 1, 8, 8)}
    same = [Mixing(mixup=True, use_identity=True)(batch) is batch for _ in range(40)]
    assert 8 < sum(same) < 32
