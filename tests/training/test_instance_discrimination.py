"""Every image is a class of its own: labels, heads, and runs that go on."""

from __future__ import annotations

import pytest
import torch
from training_runs import FROM_CLEAN_IMAGES, resumed_bit_by_bit, run

from restore.data.numbered import NumberedDataset
from restore.data.sampling import Draw
from restore.errors import OptionsError
from restore.losses.instances import InstanceLoss
from restore.options import load
from restore.quality import build_quality
from restore.registry import NETWORKS
from restore.training.objectives import InstanceDiscrimination, QualityInstanceDiscrimination

PYRAMID = {"type": "conv_pyramid", "widths": [4, 8]}
UNET = {"type": "UNetRestorer", "encoder": PYRAMID, "width": 4, "max_width": 8, "depth": 1}


class Images:
    """So many images, each of one colour."""

    fields = {"lq": "image", "image": "image"}  # noqa: RUF012

    def __init__(self, num):
        torch.manual_seed(0)
        self.colours = torch.rand(num, 3, 1, 1)

    def __len__(self):
        return len(self.colours)

    def __getitem__(self, draw):
        return {"lq": self.colours[draw.index].expand(3, 16, 16)}


def objective(num=6, **block):
    torch.manual_seed(0)
    made = InstanceDiscrimination({"g": NETWORKS.build(UNET)}, {"type": "InstanceLoss", **block})
    made.meet(Images(num))
    return made


def batch(num):
    images = NumberedDataset(Images(num))
    samples = [images[Draw(index=index, seed=0, position=index)] for index in range(num)]
    return {
        "lq": torch.stack([each["lq"] for each in samples]),
        "instance": torch.tensor([each["instance"] for each in samples]),
    }


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("box", [None, [0, 2, 0, 2], [0, 4, 0, 4]])
def test_labels_sum_to_one_and_the_loss_is_least_at_their_entropy(smoothing, box):
    loss = InstanceLoss(smoothing=smoothing, loss_weight=2.0)
    labels = loss.labels(torch.tensor([0, 3, 1]), 5, box, (4, 4))
    torch.testing.assert_close(labels.sum(1), torch.ones(3))
    entropy = -torch.special.xlogy(labels, labels).sum(1).mean()
    least = loss(labels.clamp(min=1e-30).log(), labels)
    torch.testing.assert_close(least, 2 * entropy, atol=1e-5, rtol=1e-5)
    assert loss(torch.randn(3, 5), labels) > least - 1e-6


def test_labels_are_mixed_by_area():
    labels = InstanceLoss(smoothing=0.0).labels(torch.tensor([0, 2]), 3, [0, 2, 0, 2], (4, 4))
    torch.testing.assert_close(labels, torch.tensor([[0.75, 0, 0.25], [0.25, 0, 0.75]]))


def test_there_is_a_row_for_each_image():
    made = objective(11)
    assert made.heads["classifier"].weight.shape == (11, 8)
    assert set(made.losses(batch(4))) == {"l_instance", "l_local"}
    assert set(objective(local_crops=0).losses(batch(2))) == {"l_instance"}


def test_the_encoder_learns_to_tell_images_apart_and_the_rest_stays():
    made = objective(6, smoothing=0.0, cutmix=0.0)
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    data, losses = batch(6), []
    for _ in range(60):
        found = made.losses(data)
        losses.append(found["l_instance"].item())
        sum(found.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.5 * losses[0]
    sum(made.losses(data).values()).backward()
    for name, parameter in made.networks["g"].named_parameters():
        assert (parameter.grad is not None) == name.startswith("encoder."), name


def test_judges_learn_too():
    judge = build_quality({"type": "TRIQ", "encoder": PYRAMID, "width": 8, "num_heads": 2, "grid": [2, 2]})
    made = QualityInstanceDiscrimination({"g": judge}, {"type": "InstanceLoss"})
    made.meet(Images(3))
    assert made.needs == {"image": "image"}
    sum(made.losses({"image": torch.rand(2, 3, 16, 16), "instance": torch.tensor([2, 0])}).values()).backward()
    assert judge.encoder.stages[0][0].weight.grad is not None


@pytest.mark.parametrize(
    ("block", "message"),
    [({"smoothing": 1.5}, "smoothing is from 0 to 1"), ({"local_crops": -1}, "local_crops is 0 or more")],
)
def test_what_does_not_go_together(block, message):
    with pytest.raises(OptionsError, match=message):
        objective(**block)


OPTIONS = (*FROM_CLEAN_IMAGES, "model_type=InstanceDiscrimination", "train.instance_opt={type: InstanceLoss}")


def test_a_run_goes_on_bit_by_bit(option_file, tmp_path):
    assert resumed_bit_by_bit(option_file, tmp_path / "experiments/tiny", 6, *OPTIONS)
    state = torch.load(tmp_path / "experiments/tiny/training_states/6.state", weights_only=True)
    assert state["restore"]["heads"]["classifier"]["weight"].shape == (5, 8)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.instance_opt=~", r"instance_opt: missing: \{type: InstanceLoss\}"),
        ("train.instance_opt={type: L1Loss}", "L1Loss compares images, not an image with its number"),
        ("train.pixel_opt={type: L1Loss}", "InstanceDiscrimination learns from instance_opt alone"),
    ],
)
def test_mistakes_in_options(option_file, override, message):
    with pytest.raises(OptionsError, match=message):
        load(option_file, [*OPTIONS, override], is_train=True)


@pytest.mark.parametrize(
    ("model_type", "loss"),
    [
        ("MaskedQualityPretraining", "masked_opt={type: MaskedPatchLoss, decoder_width: 8}"),
        ("QualityInstanceDiscrimination", "instance_opt={type: InstanceLoss}"),
    ],
)
def test_the_encoder_of_a_judge_is_a_start_for_it(option_file, tmp_path, model_type, loss):
    data = "datasets.train={name: ladder, type: SyntheticQualityDataset, kinds: [noise], num_levels: 2, crop_px: 8, "
    data += f"dataroot_gt: {tmp_path / 'gt'}, batch_size_per_gpu: 2, num_worker_per_gpu: 0}}"
    judge = "network_g={type: TRIQ, encoder: {type: conv_pyramid, widths: [4, 8]}, width: 8, num_heads: 2}"
    head, _, rest = option_file.read_text().partition("datasets:\n")
    tail = "network_g:" + rest.partition("network_g:")[2]
    option_file.write_text(head + "datasets: {}\n" + tail)
    common = [data, judge, "val=~", "logger.save_best=~", "train.pixel_opt=~"]
    before = [*common, f"model_type={model_type}", f"train.{loss}"]
    assert resumed_bit_by_bit(option_file, tmp_path / "experiments/tiny", 6, *before)
    weights = tmp_path / "experiments/tiny/models/net_g_latest.pth"
    after = [*common, "model_type=QualityModel", "train.quality_opt={type: OpinionLoss}", "name=tuned"]
    assert run(option_file, *after, f"path.pretrain_network_g={weights}") == 0
