"""What `reversible: true` saves in memory and costs in time, by the number of blocks.

    python scripts/studies/reversible.py

A MetaFormerRestorer of one stage takes training steps on one image. Printed are the MiB that are kept between the pass
forward and the one backward (without the weights), and the processor's time of a step with `reversible` over that of
one without, medians of steps in turn on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from restore import build_model


def main() -> None:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--depths", type=int, nargs="+", default=[4, 12, 36])
    made.add_argument("--width", type=int, default=32)
    made.add_argument("--px", type=int, default=48)
    made.add_argument("--runs", type=int, default=5)
    arguments = made.parse_args()
    torch.set_num_threads(1)
    print("| blocks | kept [MiB] | kept, reversible [MiB] | time of a step, reversible / not |")
    print("|---|---|---|---|")
    for depth in arguments.depths:
        networks = [network(arguments.width, depth, reversible) for reversible in (False, True)]
        x_BCHW = torch.rand(1, 3, arguments.px, arguments.px)
        memory = [kept(each, x_BCHW) / 2**20 for each in networks]
        seconds: list[list[float]] = [[], []]
        for _ in range(arguments.runs):
            for each, times in zip(networks, seconds, strict=True):
                since = time.process_time()
                each(x_BCHW).abs().mean().backward()
                times.append(time.process_time() - since)
        usual, reversible = (statistics.median(times) for times in seconds)
        print(f"| {depth} | {memory[0]:.1f} | {memory[1]:.1f} | {reversible / usual:.2f} |")


def network(width: int, depth: int, reversible: bool):
    """One stage of window attention, with gradients."""
    block = {"type": "MetaFormerRestorer", "mixers": [{"type": "window", "num_heads": 2}], "embed_dim": width}
    block |= {"depths": [depth], "reversible": reversible}
    return build_model(block).train().requires_grad_(True)


def kept(network, x_BCHW: torch.Tensor) -> int:
    """Bytes that autograd keeps after the pass forward, each piece of memory once and without the weights."""
    weights = {each.untyped_storage().data_ptr() for each in network.parameters()}
    pieces: dict[int, torch.UntypedStorage] = {}  # holding them, so that no place is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        pieces[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = network(x_BCHW).abs().mean()
    del loss
    return sum(piece.nbytes() for place, piece in pieces.items() if place not in weights)


if __name__ == "__main__":
    main()
