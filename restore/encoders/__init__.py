"""Encoders: an image comes in, a list of maps comes out. See `Encoder` for the contract that all of them keep.

encoder = build_encoder("convnext_atto")                            # any name that timm knows
encoder = build_encoder({"type": "swin_tiny_patch4_window7_224", "out_indices": [0, 1, 2]}, in_chans=1)
"""

from restore.encoders.base import HALF, IMAGENET, Encoder, Normalisation
from restore.encoders.build import build_encoder
from restore.encoders.classifier import Classifier, load_published, published_state
from restore.encoders.features import Features
from restore.encoders.heads import LinearHead
from restore.encoders.isotropic import TokenEncoder

__all__ = [
    "HALF",
    "IMAGENET",
    "Classifier",
    "Encoder",
    "Features",
    "LinearHead",
    "Normalisation",
    "TokenEncoder",
    "build_encoder",
    "load_published",
    "published_state",
]
