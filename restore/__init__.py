"""Image restoration and image quality transformers in one pipeline.

    import restore

    restorer = restore.load_model("swinir_light_x4")       # a shipped model, or a .pth / .safetensors file
    upscaled = restorer(image)                             # HxWx3 uint8, uint16 or float32; or a (B, C, H, W) tensor

The names below are imported when they are first used, so `import restore` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restore.inference import Restorer
    from restore.plugins import load_plugin
    from restore.zoo import build_model, list_models, load_model

__version__ = "0.1.0"

_LAZY = {
    "Restorer": "restore.inference",
    "build_model": "restore.zoo",
    "list_models": "restore.zoo",
    "load_model": "restore.zoo",
    "load_plugin": "restore.plugins",
}
_SUBPACKAGES = ("images", "metrics")

__all__ = ["Restorer", "__version__", "build_model", "list_models", "load_model", "load_plugin"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"restore.{name}")
    raise AttributeError(f"module 'restore' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBPACKAGES])
