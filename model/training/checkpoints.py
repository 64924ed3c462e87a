"""Checkpoints on disk: always whole, and only taken up by the training that they belong to.

A checkpoint holds `build`, `step`, `model` (the averaged weights), `raw`, `optimizer`, `settings`.
"""

import fcntl
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from model.networks.weights import WeightsError, read_file
from model.training.errors import CheckpointError

LAST = "last.pt"
TO_GO_ON_FROM = ("build", "step", "model", "raw", "optimiser")

Settings = Mapping[str, str | int | float | bool | None]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the output folder for this process alone; raise CheckpointError where another has it.

    It is made if it is not there. The system frees the lock when its process ends, however it ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise CheckpointError(f"cannot write into {folder}: {error.strerror}") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise CheckpointError(f"process {owner} is writing into {folder}") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def refuse_to_overwrite(folder: Path) -> None:
    """Raise CheckpointError where the folder holds checkpoints of an earlier training."""
    held = [path.name for path in folder.glob("*.pt")]
    if held:
        raise CheckpointError(
            f"{folder} holds a training ({', '.join(sorted(held))}): --resume goes on with it"
        )


def write(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint; a crash at any moment leaves the old one or the new one, whole.

    Raise CheckpointError where it cannot be written; the old one is still there.
    """
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
        partial.unlink(missing_ok=True)
        reason = " ".join(str(error).split("\n")[:1])
        raise CheckpointError(f"cannot write {path}, what was there is kept: {reason}") from error
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(path: Path, device: torch.device, needed: Sequence[str] = TO_GO_ON_FROM) -> dict[str, Any]:
    """Return a whole checkpoint with all parts that are needed; raise CheckpointError otherwise."""
    try:
        state = read_file(path, device)
    except WeightsError as error:
        raise CheckpointError(str(error)) from error
    missing = [name for name in needed if not isinstance(state, dict) or name not in state]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of a training: no {', '.join(missing)}")
    return dict(state)


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights of exactly this model, or raise CheckpointError naming the first that differ."""
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:  # also what is no weights at all
        lines = " ".join(str(error).split("\n")[:3])
        raise CheckpointError(f"{path} holds another model: {lines}") from error


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, path: Path) -> None:
    """Load an optimizer's state; raise CheckpointError where it is one of other parameters."""
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the optimizer in {path} has other parameters") from error


@contextmanager
def stop_on_signals(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT, which lets the step that runs finish and be saved.

    Put the old handlers back after.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def compare(saved: Settings | None, wanted: Settings, path: Path) -> None:
    """Raise CheckpointError naming each setting that was another when the checkpoint was written.

    Checkpoints without settings are taken as they are.
    """
    other = [
        f"{name} was {saved[name]!r}, is {wanted.get(name)!r}"
        for name in saved or ()
        if saved and saved[name] != wanted.get(name)
    ]
    if other:
        raise CheckpointError(
            f"{path} was trained with other settings: {'; '.join(other)} "
            "(--accept-changes goes on nevertheless)"
        )
