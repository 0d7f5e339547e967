"""What the package tells the type checkers of its users. Only mypy reads this; nothing here runs."""

from __future__ import annotations

from torch import nn
from typing_extensions import assert_type

import restore
from restore.inference import Restorer

assert_type(restore.load_model("swinir_light_x4", tile=256), Restorer)
assert_type(restore.build_model({"type": "SwinIR", "upscale": 4}), nn.Module)
assert_type(restore.list_models("encoder"), list[str])
restore.list_models(5)  # type: ignore[arg-type]
