"""Every model of timm as an encoder."""

from restore.encoders.timm.encoder import TimmEncoder
from restore.encoders.timm.names import FAMILIES, TimmNames, timm_encoder

__all__ = ["FAMILIES", "TimmEncoder", "TimmNames", "timm_encoder"]
