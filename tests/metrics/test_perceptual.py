"""LPIPS and DISTS: golden values, the papers' sums written plainly, where weights are looked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore import downloads
from restore.downloads import download_checked
from restore.errors import CheckpointError, ImageError, MissingError
from restore.metrics import dists, lpips
from restore.metrics.backbones import BACKBONES, Features, load_backbone
from restore.metrics.perceptual import DISTS, LPIPS, _load_dists, _load_lpips
from restore.networks import published
from restore.networks.published import WEIGHTS_FOLDER, find_weights

FILES = {"alex": "weights/alexnet_features.pth", "squeeze": "weights/squeezenet1_1_features.pth"}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No weights but those a test puts there, and no network."""

    def refuse(*args, **kwargs):
        raise MissingError("no network")

    monkeypatch.delenv(WEIGHTS_FOLDER, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(published, "download_checked", refuse)
    for cached in (load_backbone, _load_lpips, _load_dists):
        cached.cache_clear()


def random_features(name):
    import torchvision

    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        layers = getattr(torchvision.models, BACKBONES[name].model)().features
    state = {}
    for key, value in layers.state_dict().items():
        fan_in = value[0].numel() if value.ndim == 4 else value.numel()
        state[key] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
    return Features(BACKBONES[name], state)


@pytest.fixture(scope="module")
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 2, 3, 41, 44, generator=generator)


@pytest.mark.parametrize("net", FILES)
def test_golden_values(shared, golden, golden_pairs, net):
    for name, images in golden_pairs.items():
        score = lpips(*images, net=net, weights=str(shared(FILES[net])))
        assert score == pytest.approx(golden[name][f"lpips_{net}"], abs=1e-4)


@pytest.mark.parametrize("net", BACKBONES)
def test_lpips_agrees_with_a_plain_sum(net, pair):
    """The paper's equation 1 in numpy, one map after the other."""
    model = LPIPS(net, random_features(net))
    images = [model.normalise(images[:1] * 2 - 1) for images in pair]
    expected = 0.0
    for x, y, head in zip(*(model.features(image) for image in images), model.heads, strict=True):
        x, y = (m[0].double().numpy() / (np.sqrt((m[0].double().numpy() ** 2).sum(0)) + 1e-10) for m in (x, y))
        expected += (head.double().numpy()[:, None, None] * (x - y) ** 2).sum(0).mean()
    assert model(pair[0], pair[1])[0].item() == pytest.approx(expected, rel=1e-4)


def test_dists_agrees_with_a_plain_sum(pair):
    """Each term of the paper's sum, written out for one channel after the other."""
    features = random_features("vgg")
    model = DISTS(features)
    x, y = pair[0, :1], pair[1, :1]
    maps = []
    for image in (x, y):
        hidden, taken = model.normalise(image), [image]
        for index, layer in enumerate(model.layers):
            hidden = layer(hidden)
            if index in features.taps:
                taken.append(hidden)
        maps.append(taken)
    expected, channel = 1.0, 0
    for a, b in zip(*maps, strict=True):
        for c in range(a.shape[1]):
            p, q = a[0, c].double(), b[0, c].double()
            texture = (2 * p.mean() * q.mean() + 1e-6) / (p.mean() ** 2 + q.mean() ** 2 + 1e-6)
            covariance = ((p - p.mean()) * (q - q.mean())).mean()
            structure = (2 * covariance + 1e-6) / (p.var(correction=0) + q.var(correction=0) + 1e-6)
            expected -= (model.alpha[channel] * texture + model.beta[channel] * structure).item()
            channel += 1
    assert channel == 1475
    assert model(x, y).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "model", [lambda: LPIPS("squeeze", random_features("squeeze")), lambda: DISTS(random_features("vgg"))]
)
def test_identical_images_are_at_distance_zero_and_gradients_flow(model, pair):
    model = model()
    assert model(pair[0], pair[0]).abs().max() < 1e-6
    x = pair[0].clone().requires_grad_()
    model(x, pair[1]).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() > 0
    flat = torch.zeros_like(pair[0], requires_grad=True)
    model(flat, torch.zeros_like(pair[0])).sum().backward()
    assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_least_size_is_the_least(name):
    features, size = random_features(name), BACKBONES[name].least_px
    assert features(torch.rand(1, 3, size, size))[-1].numel() > 0
    with pytest.raises(ImageError, match=f"at least {size}x{size} px; given: {size - 1}x{size}"):
        features(torch.rand(1, 3, size - 1, size))
    features.least_px = 0
    with pytest.raises(RuntimeError):
        features(torch.rand(1, 3, size - 1, size - 1))


@pytest.mark.parametrize("function", [lpips, dists])
def test_missing_weights_say_which_file_goes_where(function, photo, tmp_path):
    with pytest.raises(MissingError, match=r"(alexnet-owt-7be5be79|vgg16-397923af).pth.*put it into .*checkpoints"):
        function(photo, photo)
    with pytest.raises(MissingError, match="no weights at"):
        function(photo, photo, weights=str(tmp_path / "nothing.pth"))


def test_weights_are_found_in_every_place(shared, monkeypatch, tmp_path):
    names = BACKBONES["alex"].file_names
    cache = tmp_path / "torch/hub/checkpoints"
    cache.mkdir(parents=True)
    (cache / names[0]).touch()
    assert find_weights(names) == cache / names[0]
    monkeypatch.setenv(WEIGHTS_FOLDER, str(tmp_path))
    (tmp_path / names[1]).touch()
    assert find_weights(names) == tmp_path / names[1]
    (tmp_path / "mine.pth").touch()
    assert find_weights(names, str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"
    assert find_weights(names, str(tmp_path)) == tmp_path / names[1]


def test_weights_of_another_network_are_refused(shared, photo, tmp_path):
    with pytest.raises(CheckpointError, match=r"squeezenet1_1_features.pth: not the weights of torchvision's alexnet"):
        lpips(photo, photo, weights=str(shared(FILES["squeeze"])))
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"broken\.pth: damaged, or not a weights file"):
        lpips(photo, photo, weights=str(tmp_path / "broken.pth"))


def test_a_downloaded_file_is_checked_and_used(shared, monkeypatch, photo, tmp_path, file_server):
    monkeypatch.setattr(published, "download_checked", download_checked)
    monkeypatch.setattr(published, "_MIRROR", f"{file_server.address}/")
    file_server.content = b"a login page"
    with pytest.raises(MissingError, match=r"squeezenet1_1-b8a52dc0\.pth .*discarded.*put it into .*checkpoints"):
        lpips(photo, photo, net="squeeze")
    assert not list((tmp_path / "torch").rglob("*.p*"))
    file_server.content = shared(FILES["squeeze"]).read_bytes()
    monkeypatch.setattr(
        downloads, "sha256_of", lambda path: "b8a52dc0" + 56 * "0"
    )  # of the features alone it is another
    grey = photo[..., 0]
    assert lpips(grey, grey, net="squeeze") == pytest.approx(0, abs=1e-6)
    assert lpips(grey, np.flip(grey), net="squeeze") > 0.1
