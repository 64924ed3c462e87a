"""The command `tamvt-model train prompt`: the network that turns clicks and boxes into masks."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from cyclopts import Parameter

from model.commands.options import Data, Output, Words, allow_only, choose_data_folder
from model.commands.train import STOPPED, THE_LAST, drop_none, find_start
from model.data.static import SET_WEIGHTS
from model.training import checkpoints
from model.training.prompt_trainer import PromptTrainConfig, PromptTrainer


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class PromptArguments:
    """The options of `tamvt-model train prompt`."""

    output: Output
    steps: Annotated[int | None, Parameter(help="optimizer steps in all")] = None
    data: Data = None
    sets: Annotated[Words, Parameter(validator=allow_only(SET_WEIGHTS), help="of stills")] = tuple(
        SET_WEIGHTS
    )
    threads: Annotated[int | None, Parameter(help="of PyTorch (default: one a core)")] = None
    seed: Annotated[int | None, Parameter(help="another draw of weights and samples")] = None
    batch: Annotated[int | None, Parameter(help="views of a step")] = None
    side: Annotated[int | None, Parameter(help="pixels of a view's side")] = None
    fp32: Annotated[bool, Parameter(help="compute in fp32, not in bfloat16")] = False
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


def run(
    _what: Annotated[Literal["prompt"], Parameter(name="WHAT", help="from prompts to masks")],
    /,
    *,
    args: PromptArguments,
) -> int:
    """Train; return 0 when done, 143 if told to stop."""
    if args.threads is not None:
        torch.set_num_threads(max(1, args.threads))
    own = {name: getattr(args, name) for name in ("steps", "seed", "batch", "side")}
    config = PromptTrainConfig(data=choose_data_folder(args.data), sets=args.sets)
    config = replace(config, half=not args.fp32, **drop_none(own))
    with checkpoints.locked(args.output):
        named = None if args.resume is None else next(iter(args.resume), THE_LAST)
        checkpoint = find_start(args.output, named)
        trainer = PromptTrainer(config, args.output)
        if checkpoint is not None:
            trainer.resume(checkpoint, accept_changes=args.accept_changes)
        trainer.run()
    done = trainer.step >= config.steps
    print(f"{'done' if done else 'stopped'} at step {trainer.step} of {config.steps}")
    return 0 if done else STOPPED
