"""Sequences: one encoder-decoder whose attention and feed-forward networks are chosen by name."""

from restore.layers.sequence.encoder_decoder import KINDS, EncoderDecoder

__all__ = ["KINDS", "EncoderDecoder"]
