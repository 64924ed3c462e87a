"""What STM's objects save by sharing the decoder's skips: the published order and ours, in turns.

    python -m scripts.measure.stm_skips [--size 480x864] [--objects 1 3] [--entries 5]

A frame of `stm-r50` on PyTorch: its features, the masks of all objects and, apart, its entry too.
Medians of the CPU time of neighboring runs, which another load of the machine changes little. The
masks of both orders are compared.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.commands.options import parse_size
from model.networks.base import Bank
from model.networks.registry import build_network
from model.networks.stm.decoder import RefinementDecoder
from model.networks.stm.model import Stm
from service.server.malloc import keep_large_blocks

Run = Callable[[], Tensor]


class KeptForLater(nn.Module):
    """Stands for a refinement whose skip is made when its object is decoded."""

    def encode_skip(self, feature: Tensor) -> Tensor:
        """Return the map as it is."""
        return feature


class PublishedOrder(nn.Module):
    """The decoder with the skips of each object made anew, as the published code does."""

    def __init__(self, decoder: RefinementDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.refine_s8, self.refine_s4 = KeptForLater(), KeptForLater()

    def forward(self, read: Tensor, maps: tuple[Tensor, Tensor], objects: int) -> Tensor:
        """Return what the decoder does."""
        refinements = (self.decoder.refine_s8, self.decoder.refine_s4)
        skips = [
            refinement.encode_skip(each.repeat_interleave(objects, dim=0))
            for refinement, each in zip(refinements, maps, strict=True)
        ]
        both: Tensor = self.decoder(read, (skips[0], skips[1]), 1)
        return both


def read_seconds(run: Run) -> tuple[float, Tensor]:
    """Return the processor time of one run, and what it returned."""
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


@torch.inference_mode()
def measure(args: argparse.Namespace, *, objects: int) -> str:
    """Return the lines of the table for so many objects."""
    torch.manual_seed(0)
    ours = build_network("stm-r50").eval()
    assert isinstance(ours, Stm)
    published = copy.deepcopy(ours)
    published.decoder = PublishedOrder(ours.decoder)  # type: ignore[assignment]
    frame = torch.randint(0, 256, (1, *args.size, 3), dtype=torch.uint8)
    masks = torch.rand(1, objects, *args.size)
    entry, _ = ours.memorize(ours.encode_frames(ours.normalize(frame)), masks)
    bank = Bank.of_entries([entry] * args.entries)

    def segment(network: Stm) -> Tensor:
        features = network.encode_frames(network.normalize(frame))
        return network.segment(features, bank).logits[-1]

    def remember(network: Stm) -> Tensor:
        return network.memorize(network.encode_frames(network.normalize(frame)), masks)[0][
            "key_s16"
        ]

    spent: dict[str, list[float]] = {"published": [], "ours": [], "entry": [], "trunk": []}
    for _ in range(args.rounds):
        took, theirs = read_seconds(lambda: segment(published))
        spent["published"].append(took)
        took, found = read_seconds(lambda: segment(ours))
        spent["ours"].append(took)
        assert (found - theirs).abs().max() < 1e-2
        spent["entry"].append(read_seconds(lambda: remember(ours))[0])
        # What an entry takes has the trunk's time in it, too.
        spent["trunk"].append(
            read_seconds(lambda: ours.encode_frames(ours.normalize(frame)).key)[0]
        )
    old, new, entry_s, trunk_s = (statistics.median(each) for each in spent.values())
    more = entry_s - trunk_s
    return (
        f"| {objects} | {old:.2f} | {new:.2f} | {old / new:.2f} "
        f"| {more:.2f} | {(old + more) / (new + more):.2f} |\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=parse_size, default=(480, 864), metavar="HxW")
    parser.add_argument("--objects", type=int, nargs="+", default=(1, 3))
    parser.add_argument("--entries", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    keep_large_blocks()
    torch.set_num_threads(1)
    sys.stdout.write(
        f"stm-r50, {args.size[0]}x{args.size[1]}, {args.entries} entries, seconds of CPU\n\n"
        "| objects | published | ours | times faster | an entry | with it, times faster |\n"
        "|---:|---:|---:|---:|---:|---:|\n"
    )
    for objects in args.objects:
        sys.stdout.write(measure(args, objects=objects))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
