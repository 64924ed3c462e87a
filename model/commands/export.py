"""The command `tamvt-model export`: the two graphs that are served, compared with PyTorch."""

import argparse
import sys
from pathlib import Path

import torch

from model.evaluation.runtime import GraphRuntime
from model.export.graph_export import NotExported, export, for_serving
from model.export.parity import check_parity, real_videos
from model.export.torch_runtime import TorchRuntime
from model.networks.tamvt.build import BUILDS, build, load_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tamvt-model export`."""
    parser.add_argument("build", choices=sorted(BUILDS), help="which model")
    parser.add_argument("--weights", type=Path, help="state dict or checkpoint (default: fresh)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the graphs")
    parser.add_argument("--clips", type=int, default=8, help="real clips to compare with PyTorch")


def run(args: argparse.Namespace) -> int:
    """Export, then compare the graphs with PyTorch on real clips; 1 where they differ.

    2 for a model that cannot be exported.
    """
    torch.manual_seed(0)
    model = build(BUILDS[args.build])
    if args.weights is not None:
        load_weights(model, args.weights)
    try:
        spec = export(model, args.output)
    except NotExported as error:
        print(f"tamvt-model export: {error}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in args.output.glob(f"{spec.name}*"))
    print(f"{spec.name}: {size / 1e6:.1f} MB in {args.output}, weights {spec.weights_sha256[:12]}")
    ours = TorchRuntime(for_serving(model), spec)
    theirs = GraphRuntime(args.output, spec.name)
    parity = check_parity(ours, theirs, real_videos(), clips=args.clips)
    print(parity)
    return 0 if parity.holds else 1
