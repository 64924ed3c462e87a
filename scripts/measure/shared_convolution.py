"""What objects save by sharing the pixel decoder's two finest levels: both forms, in turns.

    python -m scripts.measure.shared_convolution [--build tamvt-r50] [--size 480x864]
        [--objects 1 3]

The two levels alone, as graphs on ONNX Runtime, from random maps; medians of the ratios of the CPU
time of neighboring runs, which another load of the machine changes little.
"""

from __future__ import annotations

import argparse
import copy
import io
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout

import torch
from onnxruntime import InferenceSession, SessionOptions
from torch import Tensor, nn

from model.commands.options import parse_size
from model.export.replacements.shared_levels import SharedPixelDecoder
from model.networks.registry import build_network
from model.networks.tamvt.pixel_decoder import PixelDecoder
from service.server.malloc import keep_large_blocks

LENGTH = 2  # frames of a clip
Run = Callable[[], object]


class FinestLevels(nn.Module):
    """The maps at strides 8 and 4 of every object, from the one at stride 16."""

    def __init__(self, decoder: PixelDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, map_s4: Tensor, map_s8: Tensor, s16: Tensor) -> tuple[Tensor, Tensor]:
        maps = (map_s4, map_s8, map_s8, map_s8)  # the coarser ones are not read
        s8 = self.decoder.refine(1, maps, s16)
        return s8, self.decoder.refine(0, maps, s8)


def as_graph(levels: FinestLevels, inputs: tuple[Tensor, ...], *, threads: int) -> Run:
    """One run of the levels on ONNX Runtime."""
    names = ["map_s4", "map_s8", "s16"]
    with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(levels, inputs, input_names=names, dynamo=True, verbose=False)
    assert program is not None
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = program.model_proto.SerializeToString()
    session = InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return lambda: session.run(None, given)


def cpu_seconds(run: Run) -> float:
    """The processor time of one run."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(args: argparse.Namespace, *, objects: int) -> str:
    """One line of the table."""
    torch.manual_seed(0)
    alone = next(
        part for part in build_network(args.build).eval().modules() if type(part) is PixelDecoder
    )
    sharing = SharedPixelDecoder(copy.deepcopy(alone))
    height, width = args.size
    shapes = [lateral.get_parameter("conv.weight").shape for lateral in alone.laterals]
    inputs = (
        torch.randn(LENGTH, shapes[0][1], height // 4, width // 4),
        torch.randn(LENGTH, shapes[1][1], height // 8, width // 8),
        torch.randn(LENGTH * objects, shapes[2][0], height // 16, width // 16),
    )
    old, new = (
        as_graph(FinestLevels(decoder), inputs, threads=args.threads)
        for decoder in (alone, sharing)
    )
    old(), new()  # the first run makes room
    times = [(cpu_seconds(old), cpu_seconds(new)) for _ in range(args.rounds)]
    before, after = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(y / x for x, y in times)
    return f"| {objects} | {1000 * before:.0f} | {1000 * after:.0f} | {ratio:.2f} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--build", choices=("tamvt-r50", "tamvt-mobile"), default="tamvt-r50")
    parser.add_argument("--size", type=parse_size, default=(480, 864), metavar="HxW")
    parser.add_argument("--objects", type=int, nargs="+", default=(1, 3))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    keep_large_blocks()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    sys.stdout.write(
        f"{args.build}, {args.size[0]}x{args.size[1]}, L = {LENGTH}, {args.threads} threads\n\n"
        "| objects | alone, ms of CPU | sharing | ratio |\n|---:|---:|---:|---:|\n"
    )
    for objects in args.objects:
        sys.stdout.write(measure(args, objects=objects))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
