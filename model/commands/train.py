"""The command `tamvt-model train`: a named recipe into a folder, alone or under `torchrun`."""

import signal
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter, Token

from model.commands.options import (
    Data,
    Output,
    Rendered,
    RenderedWeight,
    allow_only,
    choose_data_folder,
)
from model.training import checkpoints
from model.training.distributed import Distributed
from model.training.errors import SettingsError
from model.training.recipes import RECIPES, TrainConfig
from model.training.trainer import Trainer

THE_LAST = Path()  # stands for last.pt of the output folder
STOPPED = 128 + signal.SIGTERM  # not 0: a Job that was told to stop has not succeeded


def check_device(_type: object, tokens: Sequence[Token]) -> str:
    """Return the name of a device as it is; raise ValueError for what names none."""
    text = tokens[0].value
    try:
        torch.device(text)
    except RuntimeError as error:
        raise ValueError(f"{text!r} is no device") from error
    return text


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArguments:
    """The options of `tamvt-model train`."""

    output: Output
    steps: Annotated[int | None, Parameter(help="optimizer steps in all")] = None
    data: Data = None
    workers: Annotated[int, Parameter(help="processes that make samples")] = 1
    threads: Annotated[int | None, Parameter(help="of PyTorch (default: one a core)")] = None
    seed: Annotated[int | None, Parameter(help="another draw of weights and samples")] = None
    batch: Annotated[int | None, Parameter(help="samples of one pass in one process")] = None
    frames: Annotated[int | None, Parameter(help="frames of a sample, the reference included")] = (
        None
    )
    accumulate: Annotated[int | None, Parameter(help="passes of one step")] = None
    world_size: Annotated[
        int | None,
        Parameter(
            help="processes that a step is meant for: fewer share out the same samples "
            "(default: those that there are)"
        ),
    ] = None
    rendered: Rendered = None
    rendered_weight: RenderedWeight = 0.75
    weights: Annotated[
        Path | None,
        Parameter(help="start from this checkpoint, or from the graphs in this folder"),
    ] = None
    fp32: Annotated[bool, Parameter(help="compute in fp32, not in bfloat16")] = False
    device: Annotated[
        str | None,
        Parameter(converter=check_device, help="cpu or cuda (default: a GPU if there is one)"),
    ] = None
    resume: Annotated[
        tuple[Path, ...] | None,
        Parameter(
            consume_multiple=(0, 1),
            help="go on from OUTPUT/last.pt, or from the checkpoint that is named; "
            "begins where there is none",
        ),
    ] = None
    accept_changes: Annotated[
        bool, Parameter(help="go on although the checkpoint was trained with other settings")
    ] = False


def configure(recipe: str, args: TrainArguments, distributed: Distributed) -> TrainConfig:
    """Return the recipe with what the command line changes; raise SettingsError if it cannot be."""
    config = RECIPES[recipe](choose_data_folder(args.data))
    samples = {name: getattr(args, name) for name in ("seed", "batch", "frames")}
    if args.rendered is not None:
        samples |= {"rendered": args.rendered, "rendered_weight": args.rendered_weight}
    config = replace(config, samples=replace(config.samples, **drop_none(samples)))
    names = ("steps", "accumulate", "world_size", "weights", "device")
    own = {name: getattr(args, name) for name in names}
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


def run(
    config: Annotated[
        str,
        Parameter(validator=allow_only(RECIPES), help=f"the recipe, one of {', '.join(RECIPES)}"),
    ],
    /,
    *,
    args: TrainArguments,
) -> int:
    """Train; return 0 when done, 143 if told to stop."""
    if args.threads is not None:
        torch.set_num_threads(max(1, args.threads))
    distributed = Distributed.from_environment()
    chosen = configure(config, args, distributed)
    # Process 0 takes the folder for all.
    with checkpoints.locked(args.output) if distributed.first else nullcontext():
        return train(chosen, args, distributed)


def train(config: TrainConfig, args: TrainArguments, distributed: Distributed) -> int:
    """Build or resume a training, run it, and say how it went; return the exit status."""
    folder = args.output
    device = torch.device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    checkpoint = find_start(
        folder, None if args.resume is None else next(iter(args.resume), THE_LAST)
    )
    with distributed.joined(device):
        trainer = Trainer(config, folder, distributed)
        if checkpoint is not None:
            trainer.resume(checkpoint, accept_changes=args.accept_changes)
            if distributed.first:
                noun = "process" if distributed.count == 1 else "processes"
                print(f"goes on at step {trainer.step} with {distributed.count} {noun}", flush=True)
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
