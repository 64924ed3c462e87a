"""`tamvt-model bench --train RECIPE`: how fast a training goes, and the memory that a step takes.

B samples of F frames, H and W their size.

Memory is counted by one step on PyTorch's fake tensors, which have sizes but no numbers. Resident
memory depends on allocator, kernels and device, and a real step takes minutes on a CPU or does not
fit at all. The count is exact for what PyTorch allocates as tensors. It leaves out what operators
use inside themselves, so a real step stands beside it.
"""

import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
from cyclopts import Parameter
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from model.commands.machine import describe_machine
from model.commands.options import Data, allow_only, choose_data_folder
from model.data.samples import SampleBatch, yield_batches
from model.networks.registry import build_network
from model.training.errors import SettingsError
from model.training.recipes import RECIPES, TrainConfig
from model.training.trainer import Trainer, group_parameters
from model.training.training_log import Speed, peak_memory_bytes, read_resident_bytes
from model.training.unroll import SampleLoss

GB = 1e9


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is active: those that live, and the most.

    What an operator uses inside itself is not seen. Storages are counted, so views cost nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if not isinstance(value, Tensor):
                continue
            storage = value.untyped_storage()
            if (key := id(storage)) not in self._known:
                self._known[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, key)
        return result

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of the tensors of one training step."""

    state: int  # weights, their averages, gradients and the optimizer's
    kept: int  # what the forward pass keeps for the backward pass
    peak: int  # the most at a time, all included


def count_footprint(config: TrainConfig, size: tuple[int, int]) -> Footprint:
    """Return what one step of a recipe takes on samples of H x W, without computing anything.

    Tensors have their sizes but no numbers, so it costs neither memory nor much time.
    """
    samples = config.samples
    with FakeTensorMode(), LiveBytes() as live:
        model = build_network(config.build).train()
        for parameter in model.parameters():  # as the trainer lays them out
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        averaged = [value.clone() for value in model.state_dict().values()]
        optimizer = torch.optim.AdamW(group_parameters(model, config))
        loss_of = SampleLoss(model, config.loss, recompute=config.recompute, loop=config.loop)
        frames = torch.zeros((samples.batch, samples.frames, *size, 3), dtype=torch.uint8)
        masks = torch.zeros((samples.batch, samples.frames, *size), dtype=torch.uint8)
        before = live.now
        loss, logits = loss_of(frames, masks, 1.0, config.half)
        kept = live.now - before
        loss.backward()
        del loss, logits, frames, masks
        optimizer.step()
        footprint = Footprint(state=live.now, kept=kept, peak=live.peak)
        del averaged
    return footprint


def run_step(config: TrainConfig, size: tuple[int, int]) -> tuple[int, float]:
    """Do one real optimizer step on made-up samples of H x W; return its bytes and seconds.

    The bytes are what the process grew by at its largest (on a GPU: what was allocated there).
    """
    before = 0 if config.device.startswith("cuda") else read_resident_bytes()
    with TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder))
        start = time.perf_counter()
        trainer.advance(make_noise(config, size))
        # The system counts pages a little late: less than before is nothing.
        return max(0, peak_memory_bytes() - before), time.perf_counter() - start


def make_noise(config: TrainConfig, size: tuple[int, int]) -> Iterator[SampleBatch]:
    """Yield one batch of noise with a square that walks and grows, again and again."""
    shape = (config.samples.batch, config.samples.frames, *size)
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
    masks = np.zeros(shape, np.uint8)
    for index in range(config.samples.frames):
        side = min(size) // 4 + index
        masks[:, index, index : index + side, index : index + side] = 1
    return repeat(SampleBatch(frames, masks, ("made up",) * config.samples.batch))


def time_steps(config: TrainConfig, *, workers: int) -> Speed:
    """Run the steps of a recipe on its own data; return their speed without the first."""
    batches = yield_batches(config.samples, 0, workers, parts=range(config.accumulate))
    with TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder))
        for _ in range(config.steps + 1):
            trainer.advance(batches)
    return trainer.speed


@Parameter(name="*", group="Training")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingArguments:
    """The options of `tamvt-model bench` that are for training."""

    train: Annotated[
        str | None,
        Parameter(validator=allow_only(RECIPES), help="time the training of this recipe"),
    ] = None
    steps: Annotated[int, Parameter(help="that are timed")] = 20
    workers: Annotated[int, Parameter(help="processes that make samples")] = 1
    data: Data = None
    frames: Annotated[int | None, Parameter(help="of a sample, the reference included")] = None
    batch: Annotated[int | None, Parameter(help="samples of a step")] = None
    fp32: Annotated[bool, Parameter(help="compute in fp32, not in bfloat16")] = False
    memory: Annotated[bool, Parameter(help="one step's memory, on made-up samples of --size")] = (
        False
    )
    count_only: Annotated[bool, Parameter(help="with --memory: do not make the step")] = False


def report(args: TrainingArguments, size: tuple[int, int]) -> Iterator[str]:
    """Yield speed or memory of a recipe, text by text; raise DataError where data are missing.

    The share of time in the model is what is left when waiting for data is taken off.
    """
    if args.train is None:
        raise SettingsError("name the recipe: --train RECIPE")
    config = configured(args, RECIPES[args.train](choose_data_folder(args.data)))
    if args.memory:
        yield describe_run(config, size)
        yield write_memory_table(config, size)
        if not args.count_only:
            grown, took = run_step(config, size)
            yield f"one real step took {grown / GB:.1f} GB and {took:.0f} s"
        return
    yield describe_run(config, (config.samples.crop, config.samples.crop))
    speed = time_steps(config, workers=args.workers)
    yield f"{speed.steps} steps: {speed}; {100 * (1 - speed.share_waiting):.1f} % in the model"


def configured(args: TrainingArguments, config: TrainConfig) -> TrainConfig:
    """Return the recipe as the command line changes it, from fresh weights: they cost the same."""
    samples = replace(
        config.samples,
        batch=args.batch or config.samples.batch,
        frames=args.frames or config.samples.frames,
    )
    return replace(
        config,
        samples=samples,
        steps=args.steps,
        half=config.half and not args.fp32,
        backbone_weights=None,
        weights=None,
        fresh_time=False,
        pictures_every=args.steps + 2,
    )


def describe_run(config: TrainConfig, size: tuple[int, int]) -> str:
    """Return what is measured, where and when."""
    products = "bfloat16" if config.half else "fp32"
    return (
        f"{config.build}, {config.samples.batch} clips of {config.samples.frames} frames of "
        f"{size[0]}x{size[1]}, matrix products in {products}\n"
        f"{describe_machine(config.device, threads=torch.get_num_threads())}"
    )


def write_memory_table(config: TrainConfig, size: tuple[int, int]) -> str:
    """Return the counted memory of a step, with activations kept and computed again."""
    lines = [
        "| GB | weights, gradients, optimizer | kept for the backward pass | peak |",
        "|---|---:|---:|---:|",
    ]
    for name, recompute in (("activations kept", False), ("activations computed again", True)):
        one = count_footprint(replace(config, recompute=recompute), size)
        used = " (the recipe)" if recompute == config.recompute else ""
        values = " | ".join(f"{value / GB:.2f}" for value in (one.state, one.kept, one.peak))
        lines.append(f"| {name}{used} | {values} |")
    return "\n".join(lines)
