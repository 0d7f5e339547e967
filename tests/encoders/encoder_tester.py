"""What every encoder must do. A test module subclasses `EncoderTester` and names option blocks of its encoders."""

from __future__ import annotations

import functools
import inspect
import json
import pickle
from typing import ClassVar

import pytest
import torch

from restore.encoders import Classifier, Encoder, build_encoder, load_published, published_state
from restore.encoders.base import IMAGENET
from restore.registry import ENCODERS


@functools.lru_cache(maxsize=4)
def _built_once(block: str) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(json.loads(block))


def randomise_constant_parameters(module: torch.nn.Module) -> None:
    """Give values to parameters that start as zeros, such as last norms and LayerScale, which would hide all others."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any() or parameter.abs().max() < 1e-2:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


class EncoderTester:
    """Channels and strides, any size, tokens, blocks, classifier, gradients, precision, weights, impossible inputs.

    `blocks` are names or option blocks; `sizes` are those of images: one of whole patches, an odd one, one smaller than
    a patch, a large one.
    """

    blocks: ClassVar[list[str | dict]]
    sizes: ClassVar[list[tuple[int, int]]] = [(64, 64), (37, 51), (3, 1), (160, 224)]
    without_gradient: ClassVar[dict[str, tuple[str, ...]]] = {}
    """By name of an encoder, endings of the parameters that no map and no token depends on."""
    discrete: ClassVar[set[str]] = set()
    """Encoders that choose (neighbours, centres): rounding may choose otherwise, so values cannot be compared."""

    def pytest_generate_tests(self, metafunc):
        if "block" in metafunc.fixturenames:
            metafunc.parametrize("block", self.blocks, ids=[_name(block) for block in self.blocks])

    @pytest.fixture
    def encoder(self, block) -> Encoder:
        return _built_once(json.dumps(block)).eval()

    def image(self, encoder: Encoder, size: tuple[int, int], batch: int = 1) -> torch.Tensor:
        torch.manual_seed(1)
        return torch.rand(batch, encoder.in_chans, *size)

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

    def test_tokens_lie_on_the_image(self, encoder):
        for size in self.sizes[:3]:
            x = self.image(encoder, size)
            with torch.no_grad():
                features, maps = encoder.encode(x), encoder(x)
            assert all(torch.equal(a, b) for a, b in zip(features.maps, maps, strict=True))
            tokens = features.tokens
            if tokens is None:
                continue
            assert tokens.x_BNC.ndim == 3
            assert tokens.x_BNC.isfinite().all()
            if tokens.grid is None:
                continue
            assert tokens.x_BNC.shape[1] == tokens.num_prefix + tokens.grid[0] * tokens.grid[1]
            assert tuple(tokens.grid) in [tuple(-(-side // stride) for side in size) for stride in encoder.strides]

    def test_blocks_run_in_the_order_in_which_they_are_listed(self, encoder):
        blocks = list(encoder.blocks())
        assert blocks, "no blocks: layer-wise decay and checkpointing would find nothing"
        assert len({*map(id, blocks)}) == len(blocks)
        assert {*map(id, blocks)} <= {*map(id, encoder.modules())}
        ran: list[int] = []
        handles = [
            block.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
            for number, block in enumerate(blocks)
        ]
        with torch.no_grad():
            encoder.encode(self.image(encoder, self.sizes[2]))
        for handle in handles:
            handle.remove()
        assert list(dict.fromkeys(ran)) == list(range(len(blocks)))

    def test_every_map_depends_on_the_image_and_gradients_flow(self, encoder):
        x = self.image(encoder, self.sizes[0], batch=2).requires_grad_()
        for each in encoder.train()(x):
            (gradient,) = torch.autograd.grad(each.square().mean(), x, retain_graph=True)
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 0
        encoder.eval()

    def test_gradients_reach_every_parameter(self, block):
        torch.manual_seed(0)
        encoder = build_encoder(block).train()
        randomise_constant_parameters(encoder)
        features = encoder.encode_all(self.image(encoder, self.sizes[0], batch=2))
        outputs = [*features.maps, *([] if features.tokens is None else [features.tokens.x_BNC])]
        assert self._silent(encoder, outputs, block) == []

    def _silent(self, module: torch.nn.Module, outputs: list[torch.Tensor], block: str | dict) -> list[str]:
        """The parameters that get no gradient from a random weighting of the outputs, or one that is not finite."""
        torch.manual_seed(3)
        sum((each * torch.randn_like(each)).mean() for each in outputs).backward()
        left_out = self.without_gradient.get(_name(block), ()) or ("/",)
        return [
            name
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
            and not name.endswith(left_out)
            and (parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any())
        ]

    def test_folded_it_is_the_same(self, encoder, assert_folds):
        assert_folds(encoder, self.image(encoder, self.sizes[1]))

    def test_bfloat16_is_close(self, encoder, block):
        x = self.image(encoder, self.sizes[0])
        with torch.no_grad():
            full = encoder(x)
            with torch.autocast("cpu", torch.bfloat16):
                low = encoder(x)
        for a, b in zip(full, low, strict=True):
            assert b.isfinite().all()
            assert _name(block) in self.discrete or (a - b.float()).abs().mean() <= 0.05 * a.abs().max()

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

    def test_the_encoder_normalises(self, encoder, block):
        if "normalisation" not in inspect.signature(ENCODERS.get(encoder_type(block))).parameters:
            pytest.skip("made of another encoder, which normalises")
        other = build_encoder(_with(block, normalisation="imagenet")).eval()
        other.load_state_dict(encoder.state_dict())
        x = self.image(encoder, self.sizes[0])
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
        with torch.no_grad():
            moved = encoder.normalise((((x - mean) / deviation) + 1) / 2)
            torch.testing.assert_close(other.normalise(x), moved)
            assert torch.equal(encoder.normalise(x), 2 * x - 1)
            for a, b in zip(other(x), encoder(x), strict=True):
                assert not torch.equal(a, b)

    def test_weights_come_back(self, encoder, block):
        other = build_encoder(block).eval()
        other.load_state_dict(encoder.state_dict())
        x = self.image(encoder, self.sizes[1])
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(encoder(x), other(x), strict=True))

    def test_it_can_be_sent_to_another_process(self, encoder):
        x = self.image(encoder, self.sizes[1])
        with torch.no_grad():
            for sent, stayed in zip(pickle.loads(pickle.dumps(encoder))(x), encoder(x), strict=True):
                assert torch.equal(sent, stayed)

    def test_a_classifier_has_logits_and_its_published_weights_come_back(self, block):
        torch.manual_seed(0)
        classifier, other = (Classifier(build_encoder(block), 7).eval() for _ in range(2))
        load_published(other, published_state(classifier))
        x = self.image(classifier.encoder, self.sizes[1], batch=2)
        with torch.no_grad():
            logits, features = classifier(x), other.encode(x)
        assert logits.shape == (2, 7)
        assert torch.equal(features.logits, logits)
        load_published(build_encoder(block), published_state(classifier))  # the head's are known, and left out

    @pytest.mark.parametrize("in_chans", [1, 4])
    def test_other_numbers_of_channels(self, block, in_chans):
        encoder = build_encoder(block, in_chans=in_chans).eval()
        with torch.no_grad():
            maps = encoder(self.image(encoder, self.sizes[0]))
        assert [each.shape[1] for each in maps] == list(encoder.channels)

    def test_out_indices_choose_and_order_maps(self, encoder, block):
        other = build_encoder(_with(block, out_indices=[-1, 0])).eval()
        other.load_state_dict(encoder.state_dict())
        x = self.image(encoder, self.sizes[0])
        with torch.no_grad():
            every, chosen = encoder.encode_all(x).maps, other(x)
        assert len(every) == encoder.num_maps
        assert other.channels == (every[-1].shape[1], every[0].shape[1])
        assert torch.equal(chosen[0], every[-1])
        assert torch.equal(chosen[1], every[0])

    def test_without_what_no_map_depends_on_maps_are_the_same_and_every_parameter_learns(self, encoder, block):
        pruned = build_encoder(block, maps_only=True).eval()
        own = pruned.state_dict()
        pruned.load_state_dict({key: value for key, value in encoder.state_dict().items() if key in own})
        x = self.image(encoder, self.sizes[0])
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(encoder(x), pruned(x), strict=True))
        randomise_constant_parameters(pruned.train())
        assert self._silent(pruned, pruned(self.image(pruned, self.sizes[0], batch=2)), block) == []

    def test_inputs_that_cannot_be_are_refused(self, encoder, block):
        wrong = encoder.in_chans + 1
        with pytest.raises(ValueError, match=rf"\(B, {encoder.in_chans}, H, W\).*given \(1, {wrong}, 8, 8\)"):
            encoder(torch.zeros(1, wrong, 8, 8))
        with pytest.raises(ValueError, match="at least one pixel"):
            encoder(torch.zeros(1, encoder.in_chans, 0, 8))
        with pytest.raises(ValueError, match=r"out_indices \[99\] do not exist"):
            build_encoder(_with(block, out_indices=[99]))


def _name(block: str | dict) -> str:
    return block if isinstance(block, str) else block["type"]


def _with(block: str | dict, **options) -> dict:
    return {**({"type": block} if isinstance(block, str) else block), **options}


def encoder_type(block: str | dict) -> str:
    """The registered name; "timm" for one of timm's."""
    return _name(block) if _name(block) in ENCODERS else "timm"
