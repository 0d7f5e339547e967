"""Turn a training checkpoint into weights that the package ships, and print the lines its model card needs.

    python scripts/ship_weights.py experiments/NAME/models/net_g_best_psnr.pth swinir_light_x4 [--dtype float16]
    python scripts/ship_weights.py experiments/NAME/models/net_g_latest.pth iqt_small --quality options/NAME.yml
    python scripts/ship_weights.py experiments/NAME/models/net_g_latest.pth defects_small --detector options/NAME.yml

The block of a quality model or a detector, from the option file that trained it, goes into the header of the file.
Averaged weights are preferred. The file goes to restore/zoo/weights/NAME.safetensors; a network's has all that spandrel
wants, and says architecture, scale and licence.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from restore.networks.checkpoint import read_state_dict
from restore.options.source import read
from restore.zoo.portable import write_portable

WEIGHTS = Path(__file__).parent.parent / "restore" / "zoo" / "weights"
DERIVED = ("attn_mask", "relative_position_index")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("name")
    parser.add_argument("--key", help="params or params_ema; by default the averaged weights if there are any")
    parser.add_argument("--dtype", default="float16", choices=["float16", "float32"])
    parser.add_argument("--quality", metavar="OPTIONS", help="the option file of a quality model")
    parser.add_argument("--detector", metavar="OPTIONS", help="the option file of a detector")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    path = WEIGHTS / f"{arguments.name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    options = arguments.quality or arguments.detector
    if options:
        state = read_state_dict(arguments.checkpoint, arguments.key)
        kept = {k: v.to(dtype).contiguous() for k, v in state.items() if not k.endswith(DERIVED)}
        block = read(options).values["network_g"]
        save_file(kept, path, metadata={"quality" if arguments.quality else "detector": json.dumps(block)})
    else:
        about = {"name": arguments.name, "licence": "Apache-2.0"}
        write_portable(arguments.checkpoint, path, key=arguments.key, dtype=dtype, metadata=about)
    content = path.read_bytes()
    print(f"weights: {path.name}\nsize_bytes: {len(content)}\nsha256: {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
