"""What every encoder must do. A test module subclasses `EncoderTester` and names option blocks of its encoders."""

from __future__ import annotations

import functools
import json
from typing import ClassVar

import pytest
import torch

from restore.encoders import Encoder, build_encoder


@functools.lru_cache(maxsize=4)
def _built_once(block: str) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(json.loads(block))


class EncoderTester:
    """Channels and strides, any size, gradients, precision, weights, inputs that cannot be.

    `blocks` are names or option blocks; `sizes` three sizes of images, one of them odd and one smaller than a stride.
    """

    blocks: ClassVar[list[str | dict]]
    sizes: ClassVar[list[tuple[int, int]]] = [(64, 64), (45, 70), (3, 1)]

    def pytest_generate_tests(self, metafunc):
        if "block" in metafunc.fixturenames:
            names = [block if isinstance(block, str) else block["type"] for block in self.blocks]
            metafunc.parametrize("block", self.blocks, ids=names)

    @pytest.fixture
    def encoder(self, block) -> Encoder:
        return _built_once(json.dumps(block)).eval()

    def image(self, encoder: Encoder, size: tuple[int, int], batch: int = 1) -> torch.Tensor:
        torch.manual_seed(1)
        return torch.randn(batch, encoder.in_chans, *size)

    def test_channels_and_strides_are_true_at_any_size(self, encoder):
        assert len(encoder.channels) == len(encoder.strides) == len(encoder.out_indices) > 0
        for height, width in self.sizes:
            with torch.no_grad():
                maps = encoder(self.image(encoder, (height, width)))
            expected = [
                (1, channels, -(-height // stride), -(-width // stride))
                for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
            ]
            assert [tuple(each.shape) for each in maps] == expected
            assert all(each.isfinite().all() for each in maps)

    def test_every_map_depends_on_the_image_and_gradients_flow(self, encoder):
        x = self.image(encoder, self.sizes[0], batch=2).requires_grad_()
        for each in encoder.train()(x):
            (gradient,) = torch.autograd.grad(each.square().mean(), x, retain_graph=True)
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 0
        encoder.eval()

    def test_bfloat16_is_close(self, encoder):
        x = self.image(encoder, self.sizes[0])
        with torch.no_grad():
            full = encoder(x)
            with torch.autocast("cpu", torch.bfloat16):
                low = encoder(x)
        for a, b in zip(full, low, strict=True):
            assert (a - b.float()).abs().mean() <= 0.05 * a.abs().max()

    def test_images_of_a_batch_do_not_meet(self, encoder):
        x = self.image(encoder, self.sizes[1], batch=2)
        with torch.no_grad():
            together, apart = encoder(x), encoder(x[1:])
        for a, b in zip(together, apart, strict=True):
            assert torch.allclose(a[1:], b, atol=1e-4 * b.abs().max().item())

    def test_the_image_is_left_as_it_is(self, encoder):
        side = 2 * encoder.tile_px if encoder.tile_px else 4 * encoder.size_multiple
        x = self.image(encoder, (side, side))  # of a size that needs no padding, so it is seen itself
        before = x.clone()
        with torch.no_grad():
            encoder(x)
        assert torch.equal(x, before)

    def test_weights_come_back(self, encoder, block):
        other = build_encoder(block).eval()
        other.load_state_dict(encoder.state_dict())
        x = self.image(encoder, self.sizes[1])
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(encoder(x), other(x), strict=True))

    @pytest.mark.parametrize("in_chans", [1, 4])
    def test_other_numbers_of_channels(self, block, in_chans):
        encoder = build_encoder(block, in_chans=in_chans).eval()
        with torch.no_grad():
            maps = encoder(self.image(encoder, self.sizes[0]))
        assert [each.shape[1] for each in maps] == list(encoder.channels)

    def test_out_indices_choose_and_order_maps(self, encoder, block):
        other = build_encoder(block, out_indices=[-1, 0]).eval()
        other.load_state_dict(encoder.state_dict())
        x = self.image(encoder, self.sizes[0])
        with torch.no_grad():
            every, chosen = encoder(x), other(x)
        assert other.channels == (encoder.channels[-1], encoder.channels[0])
        assert other.strides == (encoder.strides[-1], encoder.strides[0])
        assert torch.equal(chosen[0], every[-1])
        assert torch.equal(chosen[1], every[0])

    def test_inputs_that_cannot_be_are_refused(self, encoder, block):
        wrong = encoder.in_chans + 1
        with pytest.raises(ValueError, match=rf"\(B, {encoder.in_chans}, H, W\).*given \(1, {wrong}, 8, 8\)"):
            encoder(torch.zeros(1, wrong, 8, 8))
        with pytest.raises(ValueError, match="at least one pixel"):
            encoder(torch.zeros(1, encoder.in_chans, 0, 8))
        with pytest.raises(ValueError, match=r"out_indices \[99\] do not exist"):
            build_encoder(block, out_indices=[99])
