"""The command `tamvt-model export`: the two graphs that are served, compared with PyTorch."""

import argparse
from pathlib import Path

import torch

from model.evaluation.runtime import GraphRuntime
from model.export.graph_export import export
from model.export.parity import check_parity, real_videos
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.registry import NETWORKS, build_network
from model.networks.weights import load_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tamvt-model export`."""
    parser.add_argument("build", choices=sorted(NETWORKS), help="which model")
    parser.add_argument(
        "--weights",
        type=Path,
        help="state dict or checkpoint, ours or the authors' (default: fresh)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the graphs")
    parser.add_argument("--clips", type=int, default=8, help="real clips to compare with PyTorch")


def run(args: argparse.Namespace) -> int:
    """Export, then compare the graphs with PyTorch on real clips; return 1 where they differ."""
    torch.manual_seed(0)
    network = build_network(args.build)
    if args.weights is not None:
        load_weights(network, args.weights)
    spec = export(network, args.output)
    size = sum(path.stat().st_size for path in args.output.glob(f"{spec.name}*"))
    print(f"{spec.name}: {size / 1e6:.1f} MB in {args.output}, weights {spec.weights_sha256[:12]}")
    ours = TorchRuntime(prepare_serving(network), spec)
    theirs = GraphRuntime(args.output, spec.name)
    parity = check_parity(ours, theirs, real_videos(), clips=args.clips)
    print(parity)
    return 0 if parity.holds else 1
