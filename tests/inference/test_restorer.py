"""The Restorer: every kind of image in, the same kind out; tiles, batches, memory and modes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from restore.errors import DeviceError, ImageError, OptionsError
from restore.images import Image
from restore.inference import Restorer, fitting
from restore.inference import memory as memory_module
from restore.inference.blocks import compile_blocks
from restore.layers.reparameterised import RepConv3x3
from restore.networks.repconv import RepConvSR
from restore.networks.swinir import SwinIR

DEPTHS = [np.uint8, np.uint16, np.float32]
SHAPES = [(1, 1), (19, 33), (33, 19, 1), (20, 31, 2), (21, 30, 3), (30, 21, 4), (3, 90, 3)]
WHITE = {np.uint8: 255, np.uint16: 65535, np.float32: 1}


def pixels(shape, dtype, seed=0):
    values = np.random.default_rng(seed).uniform(0.02, 1, shape)  # alpha never 0: colours are left as they are
    return (values * WHITE[dtype]).astype(dtype)


def enlarged(image, scale):
    return image.repeat(scale, 0).repeat(scale, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_kind_comes_back(enlarge, shape, dtype, channels):
    image = pixels(shape, dtype)
    restored = Restorer(enlarge(3, channels, size_multiple=8), device="cpu", tile=16, tile_overlap=8)(image)
    assert restored.dtype == dtype
    assert restored.flags.writeable
    tolerance = 0 if dtype != np.float32 else 1e-6
    np.testing.assert_allclose(restored, enlarged(image, 3), rtol=0, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tensors(enlarge, channels):
    x = torch.rand(2, channels, 20, 27, dtype=torch.float64) * 0.9 + 0.05
    restored = Restorer(enlarge(2), device="cpu", tile=16)(x)
    assert restored.dtype == torch.float64
    torch.testing.assert_close(restored, x.repeat_interleave(2, -1).repeat_interleave(2, -2), rtol=0, atol=1e-6)


def test_tensors_are_neither_clamped_nor_rounded(enlarge):
    x = torch.tensor([[[[-0.5, 1.7]]]]).expand(1, 3, 1, 2)
    assert Restorer(enlarge(1), device="cpu")(x).flatten().tolist() == pytest.approx([-0.5, 1.7] * 3)


def test_image_keeps_profile_and_exif(enlarge):
    image = Image(pixels((8, 9, 3), np.uint8), icc=b"profile", exif=b"exif")
    restored = Restorer(enlarge(2), device="cpu")(image)
    assert (restored.icc, restored.exif, restored.pixels.shape) == (b"profile", b"exif", (16, 18, 3))
    assert image.pixels.shape == (8, 9, 3)


class Ringing(nn.Module):
    """Sharpens with a kernel that overshoots, so an alpha channel would not stay full where it was."""

    def __init__(self, spec):
        super().__init__()
        self.spec = spec

    def forward(self, x):
        x = nn.functional.interpolate(x, scale_factor=self.spec.scale, mode="bicubic")
        return 0.97 * (x + 2 * (x - nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False)))


def disc(size=32):
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(rows, columns) < size / 3


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_colour_under_transparent_pixels_does_not_bleed(enlarge, kind):
    inside = disc()
    image = np.zeros((32, 32, 4), np.float32)
    image[..., 1] = 1  # a green that nobody sees
    image[inside] = [1, 0, 0, 1]
    restorer = Restorer(Ringing(enlarge(4).spec), device="cpu", tile=16, tile_overlap=8)
    if kind == "array":
        restored = restorer(image)
    else:
        restored = restorer(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    visible = restored[..., 3] > 0
    assert visible.any()
    assert restored[visible][:, 1].max() < 1e-5  # no green
    assert restored[visible][:, 0].min() > 0.9  # all red


def test_alpha_is_exact_where_plain_and_restored_at_edges(enlarge):
    inside = disc()
    image = np.full((32, 32, 4), 128, np.uint8)
    image[..., 3] = inside * 255
    restored = Restorer(Ringing(enlarge(4).spec), device="cpu", tile=16, tile_overlap=8)(image)[..., 3]
    assert restored[60:68, 60:68].min() == 255  # the network alone would say 0.97
    assert restored[:8, :8].max() == 0
    assert len(np.unique(restored)) > 10  # soft values at the edge


def test_opaque_and_unscaled_alpha_stay_as_they_are(enlarge):
    opaque = pixels((12, 10, 4), np.uint16)
    opaque[..., 3] = 65535
    network = enlarge(2)
    assert (Restorer(network, device="cpu", tile=None)(opaque)[..., 3] == 65535).all()
    assert network.seen[0][0] == 1  # and cost no second pass
    image = pixels((12, 10, 2), np.uint8)
    spec = enlarge(1).spec
    np.testing.assert_array_equal(Restorer(Ringing(spec), device="cpu")(image)[..., 1], image[..., 1])


def test_stream_batches_small_neighbours_of_one_size(enlarge):
    network = enlarge(2)
    shapes = [(16, 16, 3)] * 5 + [(20, 16, 3)] + [(16, 16)] * 2
    images = [pixels(shape, np.uint8, seed) for seed, shape in enumerate(shapes)]
    restored = list(Restorer(network, device="cpu").stream(iter(images)))
    for image, result in zip(images, restored, strict=True):
        np.testing.assert_array_equal(result, enlarged(image, 2))
    assert [shape[0] for shape in network.seen] == [5, 1, 2]


def test_stream_is_lazy(enlarge):
    def endless():
        while True:
            yield pixels((64, 80, 3), np.uint8)

    stream = Restorer(enlarge(2), device="cpu", tile=None).stream(endless())
    assert next(stream).shape == (128, 160, 3)


@pytest.mark.parametrize("kind", [torch.Tensor, Image])
def test_stream_of_other_kinds(enlarge, kind):
    arrays = [pixels((9, 9, 3), np.float32, seed) for seed in range(3)]
    make = Image if kind is Image else lambda a: torch.from_numpy(a).permute(2, 0, 1)[None]
    restored = list(Restorer(enlarge(2), device="cpu").stream(make(array) for array in arrays))
    assert [type(item) for item in restored] == [kind] * 3


def test_tiles_are_batched_and_of_one_shape(enlarge):
    network = enlarge(2, size_multiple=8)
    Restorer(network, device="cpu", tile=32, tile_overlap=8, tile_batch=3)(pixels((64, 136, 3), np.uint8))
    assert len({shape[1:] for shape in network.seen}) == 1
    assert {shape[0] for shape in network.seen} == {3}


def test_rows_arrive_in_order_and_in_bands(enlarge):
    image = pixels((200, 40, 3), np.uint8)
    blocks = list(Restorer(enlarge(2), device="cpu", tile=40, tile_overlap=8).rows(image))
    assert len(blocks) > 4
    assert max(map(len, blocks)) <= 80
    np.testing.assert_array_equal(np.concatenate(blocks), enlarged(image, 2))


def test_result_goes_where_it_is_told(enlarge, tmp_path):
    image = pixels((50, 40, 3), np.uint16)
    out = np.memmap(tmp_path / "result", np.uint16, "w+", shape=(100, 80, 3))
    assert Restorer(enlarge(2), device="cpu", tile=16)(image, out=out) is out
    np.testing.assert_array_equal(np.asarray(out), enlarged(image, 2))
    with pytest.raises(OptionsError, match=r"the result is \(100, 80, 3\)"):
        Restorer(enlarge(2), device="cpu")(image, out=out[:-1])


def test_huge_results_go_to_a_file(enlarge, monkeypatch):
    monkeypatch.setattr(memory_module, "free_bytes", lambda device: 1000)
    image = pixels((50, 40, 3), np.uint8)
    restored = Restorer(enlarge(2), device="cpu", tile=16)(image)
    assert isinstance(restored, np.memmap)
    np.testing.assert_array_equal(restored, enlarged(image, 2))


def test_progress_rises_to_one(enlarge):
    shares = []
    Restorer(enlarge(2), device="cpu", tile=16, tile_batch=1)(pixels((40, 40, 3), np.uint8), on_progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) > 4
    assert shares[-1] == 1


class Frugal(nn.Module):
    """Runs out of memory beyond so many pixels, in the words of CUDA or of the host."""

    def __init__(self, network, most, error):
        super().__init__()
        self.network, self.most, self.error, self.refused = network, most, error, 0
        self.spec = network.spec

    def forward(self, x):
        if x.shape[0] * x.shape[-2] * x.shape[-1] > self.most:
            self.refused += 1
            raise self.error
        return self.network(x)


OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "host", "python"])
def test_out_of_memory_halves_and_goes_on(enlarge, error, caplog):
    image = pixels((120, 104, 3), np.uint8)
    network = Frugal(enlarge(2, size_multiple=8), 40 * 48, error)
    restorer = Restorer(network, device="cpu", tile=64, tile_overlap=16, tile_batch=4)
    np.testing.assert_array_equal(restorer(image), enlarged(image, 2))
    assert "continuing with half" in caplog.text
    refused = network.refused
    restorer(image)
    assert network.refused == refused  # it has learnt what fits


def test_out_of_memory_loses_no_finished_tile(enlarge):
    """Memory gets scarce in the middle of an image: what went before is not computed again."""
    inner = enlarge(1)
    network = Frugal(inner, 64 * 64, MemoryError())
    restorer = Restorer(network, device="cpu", tile=64, tile_overlap=0, tile_batch=1)

    def scarce(share):
        if share >= 0.5:
            network.most = 40 * 64

    image = pixels((128, 128, 3), np.uint8)
    np.testing.assert_array_equal(restorer(image, on_progress=scarce), image)
    assert inner.seen.count((1, 3, 64, 64)) == 2
    assert network.refused == 1


def test_out_of_memory_for_good(enlarge):
    restorer = Restorer(Frugal(enlarge(2), 100, MemoryError()), device="cpu", tile=64)
    with pytest.raises(DeviceError, match="even for a tile"):
        restorer(pixels((64, 64, 3), np.uint8))


def test_other_errors_pass(enlarge):
    restorer = Restorer(Frugal(enlarge(2), 100, RuntimeError("shapes do not match")), device="cpu", tile=64)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        restorer(pixels((64, 64, 3), np.uint8))


def test_automatic_tile_follows_free_memory(enlarge, deep, monkeypatch):
    restorer = Restorer(deep(scale=2, depth=4), device="cpu")
    image = torch.rand(1, 3, 300, 300)
    sides = []
    for free in (1 << 34, 1 << 24, 1 << 20):
        monkeypatch.setattr(fitting, "free_bytes", lambda device, free=free: free)
        sides.append(restorer.tile_for((300, 300, 3)))
    assert sides == sorted(sides, reverse=True)
    assert sides[0] > sides[1]
    assert sides[-1] == fitting.SMALLEST_TILE_PX
    assert restorer(image).shape == (1, 3, 600, 600)


def test_self_ensemble_is_the_mean_over_flips_and_rotations(deep):
    network = deep(scale=2, depth=3)
    x = torch.rand(1, 3, 12, 17)
    with torch.no_grad():
        answers = [
            torch.rot90(network(torch.rot90(y, turns, (-2, -1))), -turns, (-2, -1)).flip(-1 if y is not x else ())
            for y in (x, x.flip(-1))
            for turns in range(4)
        ]
    expected = torch.stack(answers).mean(0)
    restorer = Restorer(network, device="cpu", precision="fp32", self_ensemble=True)
    torch.testing.assert_close(restorer(x), expected, rtol=0, atol=1e-6)


def test_network_in_training_goes_back_to_training(enlarge):
    network = nn.Sequential(enlarge(2), nn.Dropout(0.5)).train()
    restorer = Restorer(network, spec=network[0].spec, device="cpu")
    image = pixels((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(restorer(image), enlarged(image, 2))
    assert network.training
    assert network[1].training


def test_no_gradient_and_no_inference_tensor(deep):
    restored = Restorer(deep(depth=3), device="cpu")(torch.rand(1, 3, 9, 9, requires_grad=True))
    assert not restored.requires_grad
    restored.requires_grad_().sum().backward()  # usable in whatever comes after


def test_compiled_blocks_answer_alike(deep, monkeypatch):
    from restore.inference import blocks

    class Stacked(nn.Module):
        def __init__(self):
            super().__init__()
            self.spec = deep().spec
            self.blocks = nn.ModuleList(deep(scale=1, depth=2) for _ in range(3))

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return nn.functional.interpolate(x, scale_factor=2)

    network = Stacked()
    assert blocks.repeated_blocks(network) == list(network.blocks)
    assert blocks.repeated_blocks(nn.Conv2d(1, 1, 1))[0].__class__ is nn.Conv2d
    x = torch.rand(1, 3, 16, 16)
    plain = Restorer(network, device="cpu")(x)
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append(self))
    torch.testing.assert_close(Restorer(network, device="cpu", compile=True)(x), plain)
    assert compiled == list(network.blocks)


def test_blocks_that_a_processor_computes_faster_are_not_compiled(monkeypatch, caplog):
    """Those of SwinIR, in words; where the network learns they are."""
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append(self))
    network = SwinIR(embed_dim=12, depths=[2], num_heads=[2], window_size=4, mlp_ratio=2, upscale=1)
    Restorer(network, device="cpu", compile=True)
    assert compiled == []
    assert "2 of 2 blocks of SwinIR are not compiled" in caplog.text
    caplog.clear()
    Restorer(RepConvSR(num_feat=4, num_block=2, upscale=2), device="cpu", compile=True)
    assert compiled
    assert compile_blocks(network) == 2
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.zeros((4, 4, 5), np.uint8), "shape"),
        (np.zeros((4, 4, 3)), "float64"),
        (torch.zeros(3, 4, 4), "B, C, H, W"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "floating point"),
        (torch.zeros(1, 5, 4, 4), "5 channels"),
    ],
    ids=["empty", "channels", "depth", "dimensions", "integers", "many channels"],
)
def test_what_is_no_image_is_refused(enlarge, image, message):
    with pytest.raises(ImageError, match=message):
        Restorer(enlarge(2), device="cpu")(image)


@pytest.mark.parametrize(
    "runtime",
    [{"tile": 0}, {"tile": "big"}, {"tile_overlap": -1}, {"tile_batch": 0}, {"tiling": "x"}, {"padding": "x"}],
)
def test_wrong_options_are_refused(enlarge, runtime):
    with pytest.raises(OptionsError):
        Restorer(enlarge(2), device="cpu", **runtime)


def test_a_folded_copy_answers_alike_and_the_network_stays():
    torch.manual_seed(0)
    network = RepConvSR(num_feat=4, num_block=1, upscale=2).train()
    torch.nn.init.normal_(network.conv_last.weight, std=0.1)
    plain, folded = (Restorer(network, device="cpu", precision="fp32", fold=fold) for fold in (False, True))
    image = pixels((9, 11, 3), np.float32)
    np.testing.assert_allclose(folded(image), plain(image), atol=1e-5)
    assert plain.network is network
    assert network.training
    assert not any(isinstance(module, RepConv3x3) for module in folded.network.modules())
    assert any(isinstance(module, RepConv3x3) for module in network.modules())
    assert folded.describe().startswith("folded RepConvSR x2 on cpu")


def test_description(enlarge):
    line = Restorer(enlarge(4), device="cpu", precision="fp32", tile=256, self_ensemble=True).describe()
    assert line == "Enlarge x4 on cpu, fp32, tiles 256 (blend, overlap 32), self-ensemble x8"
