"""Training: samples in, weights out; it can be resumed from every checkpoint."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor
from tqdm import tqdm

from model.data.samples import SampleBatch, yield_batches
from model.export.recover import recover
from model.networks.backbones import load_public_weights
from model.networks.base import TrackingNetwork
from model.networks.registry import build_network
from model.networks.weights import read_file
from model.training import checkpoints
from model.training.checkpoints import load_strictly, stop_on_signals
from model.training.distributed import Distributed
from model.training.errors import BadLoss, CheckpointError, ProcessLost, SettingsError
from model.training.recipes import TrainConfig
from model.training.schedule import (
    averaging,
    schedule_hard_share,
    schedule_rate,
    schedule_truth_share,
)
from model.training.training_log import Speed, TrainingLog, draw_picture
from model.training.unroll import SampleLoss

ALONE = Distributed()


class Trainer:
    """Model, optimizer, averaged weights and the step they have reached.

    With several processes, each makes one and all call the same methods; number 0 writes.
    """

    def __init__(self, config: TrainConfig, folder: Path, distributed: Distributed = ALONE) -> None:
        self.config, self.folder, self.distributed = config, folder, distributed
        count = config.count_parts(processes=distributed.count)
        if count < distributed.count:
            raise SettingsError(
                f"a step of {count} batches cannot be shared among {distributed.count} processes"
            )
        self.parts = range(distributed.rank, count, distributed.count)  # of a step, this process's
        self.device = torch.device(config.device)
        torch.manual_seed(config.samples.seed)
        self.model = build_network(config.build)
        self.load_start()
        self.model.to(self.device).train()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, parameter in self.model.named_parameters():
            if name.startswith(config.frozen):
                parameter.requires_grad_(False)
        self.averaged = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            group_parameters(self.model, config), weight_decay=config.weight_decay
        )
        loss = SampleLoss(self.model, config.loss, recompute=config.recompute, loop=config.loop)
        self.loss = distributed.spread(loss)
        self.speed = Speed(config.samples.batch * count)
        self.step = 0
        self.stopping = False

    def load_start(self) -> None:
        """Load weights to begin with: the backbone's public ones, or an earlier stage's."""
        config = self.config
        if config.backbone_weights is not None:
            path = config.backbone_weights
            if not path.is_file():
                raise CheckpointError(f"there are no backbone weights {path}")
            public = read_file(path)
            for trunk in self.model.trunks:
                load_public_weights(trunk, public)
        if config.weights is None:
            return
        if config.weights.is_dir():
            recover(self.model, config.weights)
            return
        read = checkpoints.read(config.weights, torch.device("cpu"), needed=("model",))
        state = read["model"]
        if config.fresh_time:
            own = self.model.state_dict().items()
            state = {**state, **{key: value for key, value in own if key.startswith("time.")}}
        load_strictly(self.model, state, config.weights)

    def run(self, workers: int) -> None:
        """Train up to the last step, or until SIGTERM; a checkpoint is on disk when it returns.

        Raise BadLoss with a checkpoint of the last good state on disk, and ProcessLost likewise
        unless the process that writes is the one that is lost.
        """
        batches = yield_batches(self.config.samples, self.step, workers, parts=self.parts)
        first = self.distributed.first
        log = TrainingLog(self.folder, first_step=self.step) if first else None
        bar = tqdm(
            total=self.config.steps,
            initial=self.step,
            unit="step",
            mininterval=5,
            disable=not first,
        )
        with stop_on_signals(self.stop), bar:
            try:
                while self.step < self.config.steps and not self.stopping:
                    loss, waited, took = self.advance(batches, log)
                    bar.update()
                    bar.set_postfix(loss=f"{loss:.3f}", wait=f"{waited:.2f}", took=f"{took:.2f}")
                    if self.is_due():
                        self.save()
            except (BadLoss, ProcessLost) as error:
                self.save()
                saved = "; the last good state is saved" if first else ""
                raise type(error)(f"{error}{saved}") from error
            finally:
                if log is not None:
                    log.close()
        self.save()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Finish the step that runs, save, and return."""
        self.stopping = True

    def advance(
        self, batches: Iterator[SampleBatch], log: TrainingLog | None = None
    ) -> tuple[float, float, float]:
        """Do one optimizer step; return its loss, the seconds waited for data, and those in all."""
        start = time.perf_counter()
        rate = schedule_rate(
            self.step,
            steps=self.config.steps,
            warm_up=self.config.warm_up,
            cool_down=self.config.decay_share,
            drops=self.config.drops,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * rate
        # Dropout must not depend on what was drawn before a stop (decision 45).
        torch.manual_seed(
            (self.config.samples.seed << 32) + self.step * 4096 + self.distributed.rank
        )
        loss, waited, shown = self.descend(batches)
        self.optimizer.step()
        self.average()
        self.step += 1
        took = time.perf_counter() - start
        self.speed.count(waited=waited, took=took)
        if log is not None:
            log.step(self.step, loss=loss, rate=rate, waited=waited, took=took)
            if self.step % self.config.pictures_every == 0:
                log.log_picture(self.step, draw_picture(*shown))
        return loss, waited, took

    def descend(
        self, batches: Iterator[SampleBatch]
    ) -> tuple[float, float, tuple[SampleBatch, Tensor]]:
        """Make the gradients of one step.

        Return its loss, the seconds waited, and the last samples with their logits.
        """
        config, passes, loss, waited = self.config, len(self.parts), 0.0, 0.0
        # The processes' gradients are averaged, though some may make one more pass than others.
        mean_passes = config.count_parts(processes=self.distributed.count) / self.distributed.count
        sources: list[str] = []
        self.optimizer.zero_grad(set_to_none=True)
        for index in range(passes):
            start = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - start
            sources += batch.sources
            frames = torch.from_numpy(batch.frames).to(self.device)
            masks = torch.from_numpy(batch.masks).to(self.device)
            waiting = self.distributed.unsynchronized(self.loss, index + 1 < passes)
            with self.distributed.together(), waiting:
                value, logits = self.loss(
                    frames,
                    masks,
                    schedule_hard_share(self.step, until=config.hard_steps),
                    config.half,
                    batch.objects,
                    schedule_truth_share(self.step, until=config.loop.truth_steps),
                )
                (value / mean_passes).backward()
            loss += value.item() / mean_passes
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
        loss = self.agree(loss, norm.item(), sources)
        return loss, waited, (batch, logits)

    def agree(self, loss: float, norm: float, sources: list[str]) -> float:
        """Return the mean loss of all processes, which also agree to stop.

        Raise BadLoss unless loss and gradient are finite. The weights have not changed yet, so
        what is saved then is the last good state.
        """
        mean, stopping, size = self.distributed.average_over_ranks(
            [loss, float(self.stopping), norm], self.device
        )
        self.stopping = stopping > 0
        if math.isfinite(mean) and math.isfinite(size):
            return mean
        own = "" if math.isfinite(loss) and self.distributed.count > 1 else ", ".join(sources)
        origin = "; ".join(filter(None, self.distributed.gathered(own))) or ", ".join(sources)
        raise BadLoss(
            f"loss is {mean}, gradient {size}, at step {self.step} "
            f"(seed {self.config.samples.seed}) on: {origin}"
        )

    @torch.no_grad()
    def average(self) -> None:
        """Move the averaged weights towards the present ones."""
        kept = averaging(self.step, longest=self.config.ema)
        for key, value in self.model.state_dict().items():
            self.averaged[key].lerp_(value, 1 - kept)

    def is_due(self) -> bool:
        """Return whether this step's state is to be written."""
        every = (self.config.checkpoint_every, self.config.keep_every)
        return any(self.step % interval == 0 for interval in every)

    def save(self) -> None:
        """Write `last.pt`, and now and then one that is kept, from process 0."""
        if not self.distributed.first:
            return
        state = {
            "settings": self.config.settings(processes=self.distributed.count),
            "build": self.config.build,
            "step": self.step,
            "model": self.averaged,
            "raw": self.model.state_dict(),
            "optimiser": self.optimizer.state_dict(),
        }
        checkpoints.write(state, self.folder / checkpoints.LAST)
        if self.step and self.step % self.config.keep_every == 0:
            checkpoints.write(state, self.folder / f"step{self.step:06d}.pt")

    def resume(self, path: Path, *, accept_changes: bool = False) -> None:
        """Go on from a checkpoint; raise CheckpointError where it is not one of this training."""
        state = checkpoints.read(path, self.device)
        if state["build"] != self.config.build:
            raise CheckpointError(
                f"{path} is a checkpoint of {state['build']}, not of {self.config.build}"
            )
        if not accept_changes:
            wanted = self.config.settings(processes=self.distributed.count)
            checkpoints.compare(state.get("settings"), wanted, path)
        # The averaged weights pass through the model too, so that they are those of this one.
        load_strictly(self.model, state["model"], path)
        self.averaged = {key: value.clone() for key, value in self.model.state_dict().items()}
        load_strictly(self.model, state["raw"], path)
        checkpoints.load_optimizer(self.optimizer, state["optimiser"], path)
        self.step = int(state["step"])


def group_parameters(model: TrackingNetwork, config: TrainConfig) -> list[dict[str, object]]:
    """Return the backbone's parameters and the others, each with its own rate."""
    named = [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or not name.startswith("backbone.")
    ]
    backbone = [parameter for name, parameter in named if name.startswith("backbone.")]
    others = [parameter for name, parameter in named if not name.startswith("backbone.")]
    return [
        {"params": backbone, "base": config.backbone_rate, "lr": config.backbone_rate},
        {"params": others, "base": config.rate, "lr": config.rate},
    ]
