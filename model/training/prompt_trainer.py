"""Training of a prompt network, on one process: rounds of clicks in, weights out.

B views, S their side.
"""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.data.prompt_samples import PromptViews, split_stills
from model.data.static import SET_WEIGHTS
from model.networks.backbones import load_public_weights
from model.networks.prompt.network import build_prompt_network, raise_mask
from model.networks.weights import read_file
from model.training import checkpoints
from model.training.checkpoints import Settings, load_strictly, stop_on_signals
from model.training.errors import BadLoss, CheckpointError
from model.training.losses import dice_loss
from model.training.prompt_rounds import PromptBatch, PromptRounds
from model.training.schedule import averaging, schedule_rate
from model.training.training_log import TrainingLog

PROMPT_BUILD = "prompt"
SCORE_WEIGHT = 0.25
FREE = ("data", "steps", "checkpoint_s")  # what may differ when a training goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTrainConfig:
    """How a prompt network is trained; from MobileNetV2 after DeepLabv3's training."""

    data: Path
    sets: tuple[str, ...] = tuple(SET_WEIGHTS)
    steps: int = 4_900
    batch: int = 12
    side: int = 256
    seed: int = 1
    rate: float = 1e-3
    backbone_rate: float = 2.5e-4
    weight_decay: float = 1e-2
    warm_up: int = 150
    decay_share: float = 0.5
    gradient_clip: float = 1.0
    ema: float = 0.998
    half: bool = True  # bfloat16 where it is safe
    checkpoint_s: float = 300.0

    @property
    def backbone_weights(self) -> Path:
        """Return the file of weights to begin with."""
        return self.data / "backbone" / "mobilenet_v2_deeplab_coco_voc.pth"

    def settings(self) -> Settings:
        """Return what decides what is learned in which step, by name."""
        values = {**asdict(self), "sets": ",".join(self.sets)}
        return {name: value for name, value in values.items() if name not in FREE}


def prompt_loss(logits: Tensor, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of mask logits (B, S, S) and score logits (B,), and the IoU of each, (B,).

    Focal loss whose weights add up to one, so that it does not fade as masks become right (Sofiiuk
    et al. 2019), and dice; the score learns the IoU of its mask.
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (1 - torch.exp(-cross_entropy.detach())) ** 2  # (1 - p of the truth)^2
    focal = (wrong * cross_entropy).sum(dim=(1, 2)) / (wrong.sum(dim=(1, 2)) + 1.0)
    found, true = logits.detach() > 0, target > 0.5
    overlap = (found & true).sum(dim=(1, 2))
    iou = overlap / (found | true).sum(dim=(1, 2)).clamp(min=1)
    scored = functional.binary_cross_entropy_with_logits(scores, iou)
    loss = focal.mean() + dice_loss(logits, target).mean() + SCORE_WEIGHT * scored
    return loss, iou


class PromptTrainer:
    """Network, optimizer, averaged weights and the step they have reached."""

    def __init__(self, config: PromptTrainConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        torch.manual_seed(config.seed)
        self.network = build_prompt_network()
        if not config.backbone_weights.is_file():
            raise CheckpointError(f"there are no backbone weights {config.backbone_weights}")
        load_public_weights(self.network.backbone, read_file(config.backbone_weights))
        self.network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = {key: value.clone() for key, value in self.network.state_dict().items()}
        trained = [(n, p) for n, p in self.network.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for n, p in trained if n.startswith("backbone.") == own], "base": rate}
            for own, rate in ((True, config.backbone_rate), (False, config.rate))
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=config.weight_decay)
        self.views = PromptViews(split_stills(config.data, config.sets).training, config.side)
        self.step = 0
        self.stopping = False

    def run(self) -> None:
        """Train up to the last step, or until SIGTERM; a checkpoint is on disk when it returns.

        Raise BadLoss with a checkpoint of the last good state on disk.
        """
        cv2.setNumThreads(1)
        # Other views after each start: where the rounds were is not kept.
        rng = np.random.default_rng((self.config.seed, self.step))
        rounds = PromptRounds(self.views, rng, batch=self.config.batch)
        log, saved = TrainingLog(self.folder, first_step=self.step), time.monotonic()
        with stop_on_signals(self.stop):
            try:
                while self.step < self.config.steps and not self.stopping:
                    self.advance(rounds, log)
                    if time.monotonic() - saved > self.config.checkpoint_s:
                        self.save()
                        saved = time.monotonic()
            finally:
                log.close()
                self.save()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Finish the step that runs, save, and return."""
        self.stopping = True

    def advance(self, rounds: PromptRounds, log: TrainingLog) -> None:
        """Do one optimizer step and one round of clicks."""
        begun = time.perf_counter()
        batch = rounds.make_batch()
        rate = schedule_rate(
            self.step,
            steps=self.config.steps,
            warm_up=self.config.warm_up,
            cool_down=self.config.decay_share,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * rate
        logits, scores = self.look(batch)
        loss, _ = prompt_loss(logits, scores, torch.from_numpy(batch.target).float())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
            sources = ", ".join(view.still.source for view in rounds.shown)
            raise BadLoss(
                f"step {self.step + 1}: loss is {loss.item()}, gradient {norm.item()}, on: "
                f"{sources}; the last good state is saved"
            )
        self.optimizer.step()
        self.average()
        self.step += 1
        computed = time.perf_counter()
        rounds.advance((logits.detach().sigmoid() * 255).round().to(torch.uint8).numpy())
        ended = time.perf_counter()
        log.step(
            self.step, loss=loss.item(), rate=rate, waited=ended - computed, took=ended - begun
        )

    def look(self, batch: PromptBatch) -> tuple[Tensor, Tensor]:
        """Return the mask logits (B, S, S) and score logits (B,) of a batch, in fp32."""
        image, points, labels = (torch.from_numpy(each) for each in batch[:3])
        previous = torch.from_numpy(batch.previous).float() / 255
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.half):
            logits, scores = self.network(image, points, labels, previous)
        size = (self.config.side, self.config.side)
        return raise_mask(logits.float(), size), scores.float()

    @torch.no_grad()
    def average(self) -> None:
        """Move the averaged weights towards the present ones."""
        kept = averaging(self.step, longest=self.config.ema)
        for key, value in self.network.state_dict().items():
            self.averaged[key].lerp_(value, 1 - kept)

    def save(self) -> None:
        """Write `last.pt`."""
        state = {
            "settings": self.config.settings(),
            "build": PROMPT_BUILD,
            "step": self.step,
            "model": self.averaged,
            "raw": self.network.state_dict(),
            "optimiser": self.optimizer.state_dict(),
        }
        checkpoints.write(state, self.folder / checkpoints.LAST)

    def resume(self, path: Path, *, accept_changes: bool = False) -> None:
        """Go on from a checkpoint; raise CheckpointError where it is not one of this training."""
        state = checkpoints.read(path, torch.device("cpu"))
        if state["build"] != PROMPT_BUILD:
            raise CheckpointError(f"{path} is a checkpoint of {state['build']}, not of a prompt")
        if not accept_changes:
            checkpoints.compare(state.get("settings"), self.config.settings(), path)
        # The averaged weights pass through the network too, so that they are those of this one.
        load_strictly(self.network, state["model"], path)
        self.averaged = {key: value.clone() for key, value in self.network.state_dict().items()}
        load_strictly(self.network, state["raw"], path)
        checkpoints.load_optimizer(self.optimizer, state["optimiser"], path)
        self.step = int(state["step"])
