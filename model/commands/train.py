"""The command `tamvt-model train`: a named recipe into a folder, alone or under `torchrun`."""

import argparse
import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model.training import checkpoints
from model.training.distributed import Distributed
from model.training.errors import SettingsError
from model.training.recipes import RECIPES, TrainConfig
from model.training.trainer import Trainer

THE_LAST = Path()  # stands for last.pt of the output folder
STOPPED = 128 + signal.SIGTERM  # not 0: a Job that was told to stop has not succeeded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tamvt-model train`."""
    parser.add_argument(
        "config", choices=sorted(RECIPES), metavar="CONFIG", help=f"one of {', '.join(RECIPES)}"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--steps", type=int, help="optimizer steps in all")
    parser.add_argument("--data", type=Path, help="training data (default: TAMVT_DATA, else data)")
    parser.add_argument("--workers", type=int, default=1, help="processes that make clips")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: one a core)")
    parser.add_argument("--seed", type=int, help="another draw of weights and clips")
    parser.add_argument("--batch", type=int, help="clips of one pass in one process")
    parser.add_argument("--frames", type=int, help="frames of a clip, the reference included")
    parser.add_argument("--accumulate", type=int, help="passes of one step")
    parser.add_argument(
        "--weights", type=Path, help="start from this checkpoint, or from the graphs in this folder"
    )
    parser.add_argument("--fp32", action="store_true", help="compute in fp32, not in bfloat16")
    parser.add_argument(
        "--device", type=device_name, help="cpu or cuda (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=THE_LAST,
        metavar="CHECKPOINT",
        help="go on from OUTPUT/last.pt, or from this checkpoint; begins where there is none",
    )
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on although the checkpoint was trained with other settings",
    )


def device_name(text: str) -> str:
    """Return the name of a device as it is; raise ValueError for what names none."""
    try:
        torch.device(text)
    except RuntimeError as error:
        raise ValueError(f"{text!r} is no device") from error
    return text


def configure(args: argparse.Namespace, distributed: Distributed) -> TrainConfig:
    """Return the recipe with what the command line changes; raise SettingsError if it cannot be."""
    data = args.data or Path(os.environ.get("TAMVT_DATA", "data"))
    config = RECIPES[args.config](data)
    samples = {name: getattr(args, name) for name in ("seed", "batch", "frames")}
    config = replace(config, samples=replace(config.samples, **drop_none(samples)))
    own = {name: getattr(args, name) for name in ("steps", "accumulate", "weights", "device")}
    config = replace(config, half=config.half and not args.fp32, **drop_none(own))
    if config.samples.frames < 2:
        raise SettingsError("a clip needs a reference and at least one more frame: --frames 2")
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError(f"there is no GPU here for --device {config.device}")
    if config.device == "cuda":
        config = replace(config, device=f"cuda:{distributed.local_rank}")
    return config


def drop_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def run(args: argparse.Namespace) -> int:
    """Train; return 0 when done, 143 if told to stop."""
    if args.threads is not None:
        torch.set_num_threads(max(1, args.threads))
    distributed = Distributed.from_environment()
    config = configure(args, distributed)
    # Process 0 takes the folder for all.
    with checkpoints.locked(args.output) if distributed.first else nullcontext():
        return train(config, args, distributed)


def train(config: TrainConfig, args: argparse.Namespace, distributed: Distributed) -> int:
    """Build or resume a training, run it, and say how it went; return the exit status."""
    folder: Path = args.output
    device = torch.device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    checkpoint = find_start(folder, args.resume)
    with distributed.joined(device):
        trainer = Trainer(config, folder, distributed)
        if checkpoint is not None:
            trainer.resume(checkpoint, accept_changes=args.accept_changes)
        distributed.wait()
        trainer.run(args.workers)
    done = trainer.step >= config.steps
    if distributed.first:
        state = "done" if done else "stopped"
        print(f"{state} at step {trainer.step} of {config.steps}: {trainer.speed}")
    return 0 if done else STOPPED


def find_start(folder: Path, resume: Path | None) -> Path | None:
    """Return the checkpoint to go on from, if any.

    Raise CheckpointError where one would be overwritten.
    """
    if resume is None:
        checkpoints.refuse_to_overwrite(folder)
        return None
    own = folder / checkpoints.LAST
    if resume == THE_LAST and own.exists():
        return own
    if resume == THE_LAST or resume.resolve().parent != folder.resolve():
        checkpoints.refuse_to_overwrite(folder)
    return None if resume == THE_LAST else resume
