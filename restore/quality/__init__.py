"""Image quality transformers: IQT (with a reference) and TRIQ (without), with any encoder.

model = load_quality("iqt_small")                       # a shipped model, or a weights file
model.judge(restored_BCHW, reference_BCHW)              # (B,) scores, higher is better

model = build_quality({"type": "TRIQ", "encoder": "resnet50"})
model.judge(images_BCHW), model.spread(model(images_BCHW))
"""

from restore.quality.base import QualityModel
from restore.quality.loading import build_quality, load_quality

__all__ = ["QualityModel", "build_quality", "load_quality"]
