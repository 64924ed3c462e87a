"""The command `tamvt-model export`: the two graphs that are served, compared with PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from model.commands.options import Output, allow_only
from model.core.contract import Measured
from model.evaluation.runtime import GraphRuntime
from model.export.cost import count_macs
from model.export.graph_export import export, rewrite_spec
from model.export.parity import check_parity, read_real_videos
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.base import count_parameters
from model.networks.registry import NETWORKS, build_network
from model.networks.weights import load_weights, read_file, read_loop


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ExportArguments:
    """The options of `tamvt-model export`."""

    weights: Annotated[
        Path | None,
        Parameter(help="state dict or checkpoint, ours or the authors' (default: fresh)"),
    ] = None
    output: Output
    half: Annotated[
        bool, Parameter(negative=(), help="round weights to fp16 and store them so: half the bytes")
    ] = False
    clips: Annotated[int, Parameter(help="real clips to compare with PyTorch")] = 8


def run(
    build: Annotated[str, Parameter(validator=allow_only(NETWORKS), help="which model")],
    /,
    *,
    args: ExportArguments,
) -> int:
    """Export, then compare the graphs with PyTorch on real clips; return 1 where they differ.

    What is measured is written into the graphs, for `/v1/models` to tell.
    """
    torch.manual_seed(0)
    loop = {} if args.weights is None else read_loop(read_file(args.weights))
    network = build_network(build, **loop)
    if args.weights is not None:
        load_weights(network, args.weights)
    spec = export(network, args.output, half=args.half)
    size = sum(path.stat().st_size for path in args.output.glob(f"{spec.name}*"))
    print(f"{spec.name}: {size / 1e6:.1f} MB in {args.output}, weights {spec.weights_sha256[:12]}")
    ours = TorchRuntime(prepare_serving(network, half=args.half), spec)
    theirs = GraphRuntime(args.output, spec.name)
    parity = check_parity(ours, theirs, read_real_videos(), clips=args.clips)
    print(parity)
    measured = Measured(
        parity=parity.largest_difference,
        agreement=round(parity.agreement, 5),
        parameters=count_parameters(network),
        macs=count_macs(network, spec, size=spec.buckets.sizes[0]),
    )
    rewrite_spec(args.output, spec.name, measured=measured)
    return 0 if parity.holds else 1
