"""The mean of several trainings of one build, as a checkpoint: weights by name, each with a share.

    python -m scripts.average_weights a.pt b.pt model/weights --shares 0.425 0.425 0.15 -o mean.pt

A folder stands for the graphs in it. It only makes sense where all began with the same weights
(Wortsman et al. 2022, model soups): the mean is then often better than each.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from model.commands.options import choose_data_folder
from model.errors import ModelError
from model.networks.weights import read_file
from model.training import checkpoints
from model.training.recipes import RECIPES
from model.training.trainer import Trainer


def read_weights(path: Path, recipe: str, folder: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint (the averaged ones), or of the graphs in a folder."""
    if not path.is_dir():
        return dict(checkpoints.read(path, torch.device("cpu"), needed=("model",))["model"])
    config = replace(RECIPES[recipe](choose_data_folder(None)), weights=path)
    trainer = Trainer(config, folder)
    trainer.load_start()
    return dict(trainer.model.state_dict())


def average(weights: list[dict[str, Tensor]], shares: list[float]) -> dict[str, Tensor]:
    """Return the weighted mean of tensors by name; what counts steps is the first one's."""
    mean = dict(weights[0])
    for name, value in mean.items():
        if value.is_floating_point():
            every = torch.stack([each[name].float() for each in weights])
            mean[name] = torch.tensordot(torch.tensor(shares), every, dims=1).to(value.dtype)
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--shares", nargs="+", type=float, required=True)
    parser.add_argument("--recipe", default="tamvt-mobile-loop", choices=tuple(RECIPES))
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    if len(args.shares) != len(args.weights) or abs(sum(args.shares) - 1) > 1e-6:
        parser.error("there is a share for each of the weights, and they add up to 1")
    if args.weights[0].is_dir():
        parser.error("the first is a checkpoint: the others are put into its place")
    try:
        read = [read_weights(path, args.recipe, args.output.parent) for path in args.weights]
        content = read_file(args.weights[0])
    except ModelError as error:
        sys.exit(f"average_weights: {error}")
    torch.save({**content, "model": average(read, args.shares)}, args.output)


if __name__ == "__main__":
    main()
