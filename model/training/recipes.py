"""How to train: the numbers of a training, and the named ones. `docs/training.md` explains them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from model.core.contract import SHIPPED_WEIGHTS
from model.data.layouts import StillSet, VideoSet
from model.data.samples import SampleConfig
from model.data.static import FIRST_SETS, SET_WEIGHTS
from model.training.checkpoints import Settings
from model.training.errors import SettingsError
from model.training.losses import LossConfig
from model.training.unroll import LoopConfig

# What may differ when a training goes on: where files lie, how long it takes, what it leaves.
FREE = frozenset(
    (
        "steps",
        "device",
        "backbone_weights",
        "weights",
        "fresh_time",
        "recompute",
        "accumulate",
        "world_size",
        "checkpoint_every",
        "keep_every",
        "pictures_every",
    )
)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train one build.

    A step sees `samples.batch` samples, `accumulate` times, in every process. With `world_size` it
    sees what so many processes would, however many there are. `decay_share` is the share of steps
    at the end over which the rates fall to zero, `drops` the shares after each of which they are a
    tenth. Over the first `hard_steps` steps cross-entropy comes to count the hardest quarter of
    the pixels alone. `weights` start the model (an earlier stage's checkpoint; with `fresh_time`
    all but its time encoding). Parameters whose names start with one of `frozen` stay.
    """

    build: str
    samples: SampleConfig
    backbone_weights: Path | None
    steps: int = 7_300
    rate: float = 5e-4
    backbone_rate: float = 1e-4
    weight_decay: float = 1e-2
    warm_up: int = 100
    decay_share: float = 0.165
    drops: tuple[float, ...] = ()
    gradient_clip: float = 1.0
    ema: float = 0.998
    hard_steps: int = 1_000
    loss: LossConfig = field(default_factory=LossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    accumulate: int = 1
    world_size: int | None = None  # None: as many processes as there are
    half: bool = True  # bfloat16 where it is safe
    recompute: bool = False  # activations, to save memory
    weights: Path | None = None
    fresh_time: bool = False
    frozen: tuple[str, ...] = ()
    checkpoint_every: int = 100
    keep_every: int = 1_000
    pictures_every: int = 500
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "checkpoint_every", "keep_every", "pictures_every"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.world_size is not None and self.world_size < 1:
            raise SettingsError(f"world_size must be at least 1, not {self.world_size}")

    def count_parts(self, *, processes: int) -> int:
        """Return how many batches a step consists of, over all processes and passes."""
        return self.accumulate * (self.world_size or processes)

    def settings(self, *, processes: int) -> Settings:
        """Return what decides what is learned in which step, by name.

        How a step's clips are shared out among processes and passes does not; nor does how long
        the training goes on, or where files lie.
        """
        values = {name: value for name, value in asdict(self).items() if name not in FREE}
        samples = values["clips"] = values.pop("samples")  # the name in files of checkpoints
        samples["clips_a_step"] = samples.pop("batch") * self.count_parts(processes=processes)
        for kind in ("still_sets", "video_sets"):
            samples[kind] = [{**each, "root": None} for each in samples[kind]]
        del samples["data"], samples["rendered"]
        return flatten(values)


def flatten(
    values: Mapping[str, Any], prefix: str = ""
) -> dict[str, str | int | float | bool | None]:
    """Return nested settings under dotted names; lists as text."""
    out: dict[str, str | int | float | bool | None] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            out |= flatten(value, f"{prefix}{name}.")
        else:
            plain = value is None or isinstance(value, str | int | float)
            out[prefix + name] = value if plain else str(value)
    return out


def mobile(data: Path) -> TrainConfig:
    """Return the shipped model's recipe: still pictures and video, from ImageNet's MobileNetV2."""
    samples = SampleConfig(data=data, seed=1, batch=4, crop=256, frames=9, static_sets=FIRST_SETS)
    backbone = data / "backbone" / "mobilenet_v2_imagenet.pth"
    return TrainConfig("tamvt-mobile", samples, backbone)


def mobile_loop(data: Path) -> TrainConfig:
    """Return what comes after `tamvt-mobile`: older and damaged memories, several objects."""
    config = mobile(data)
    samples = replace(
        config.samples,
        seed=2,
        frames=11,
        extra_weight=0.5,
        dark_share=0.08,
        objects=(0.4, 0.2, 0.16, 0.1, 0.07, 0.07),
        static_sets=tuple(SET_WEIGHTS),
    )
    return replace(
        config,
        samples=samples,
        weights=SHIPPED_WEIGHTS,
        steps=6_000,
        rate=3e-4,
        backbone_rate=6e-5,
        decay_share=0.6,
        ema=0.999,
        hard_steps=0,
        loop=LoopConfig(memory_size=5, silent_clips=2, single_share=0.3, damage_share=0.3),
    )


def mobile_large(data: Path) -> TrainConfig:
    """Return a last phase of `tamvt-mobile-loop` on larger frames, as thin objects are served."""
    config = mobile_loop(data)
    samples = replace(config.samples, seed=3, crop=384, batch=2)
    return replace(config, samples=samples, steps=430, rate=2e-4, backbone_rate=4e-5, ema=0.998)


def mobile_deeplab(data: Path) -> TrainConfig:
    """Return `tamvt-mobile-loop` from MobileNetV2 after DeepLabv3's training, all else fresh."""
    backbone = data / "backbone" / "mobilenet_v2_deeplab_coco_voc.pth"
    config = mobile_loop(data)
    return replace(config, backbone_weights=backbone, weights=None, rate=5e-4, backbone_rate=1e-4)


def family(data: Path, build: str, loop: LoopConfig) -> TrainConfig:
    """Return the short training that compares the family: the same for all but build and loop."""
    samples = SampleConfig(
        data=data,
        seed=3,
        crop=192,
        frames=7,
        batch=4,
        extra_weight=0.5,
        objects=(0.4, 0.4, 0.2),  # a query learns to tell objects apart where there are several
    )
    return TrainConfig(
        build,
        samples,
        data / "backbone" / "mobilenet_v2_imagenet.pth",
        steps=1_000,
        decay_share=0.5,
        ema=0.99,
        loop=replace(loop, truth_steps=400),
    )


def mobile_static(data: Path) -> TrainConfig:
    """Return the first of two stages: synthetic clips of still pictures alone."""
    config = mobile(data)
    return replace(config, samples=replace(config.samples, synthetic_share=1.0))


def mobile_video(data: Path) -> TrainConfig:
    """Return the second of two stages: video, from the first stage's weights, at lower rates."""
    config = mobile(data)
    samples = replace(config.samples, synthetic_share=0.2)
    return replace(config, samples=samples, backbone_weights=None, rate=2e-4, backbone_rate=4e-5)


def mobile_transformation(data: Path) -> TrainConfig:
    """Return `tamvt-mobile` with frames weighed by their change of area (TAM-VT, eq. 5)."""
    return replace(mobile(data), loss=LossConfig("hard", change="area"))


def mobile_published_loss(data: Path) -> TrainConfig:
    """Return `tamvt-mobile` with the published loss."""
    return replace(mobile(data), loss=LossConfig("published", change="area"))


def mobile_without_time(data: Path) -> TrainConfig:
    """Return `tamvt-mobile` without the relative time encoding."""
    return replace(mobile(data), build="tamvt-mobile-without-time")


def ablation(data: Path, row: str) -> TrainConfig:
    """Return one row of the ablations: short, and like `full` but for what it is named after."""
    base = mobile(data)
    full = replace(
        base,
        samples=replace(base.samples, crop=128, frames=7),
        steps=400,
        warm_up=30,
        decay_share=0.4,
        loss=LossConfig("hard", change="area"),
        checkpoint_every=50,
    )
    return ABLATION_ROWS[row](full)


Variation = Callable[[TrainConfig], TrainConfig]


def built_as(build: str) -> Variation:
    """Return a variation that trains another build."""
    return lambda config: replace(config, build=build)


def weighed(**values: Any) -> Variation:
    """Return a variation with other values in its `LossConfig`."""
    return lambda config: replace(config, loss=replace(config.loss, **values))


def of_frames(frames: int) -> Variation:
    """Return a variation with samples of so many frames, the reference included."""
    return lambda config: replace(config, samples=replace(config.samples, frames=frames))


ABLATIONS: Mapping[str, Variation] = MappingProxyType(
    {
        "full": lambda config: config,
        "without-time": built_as("tamvt-mobile-without-time"),
        "additive-time": built_as("tamvt-mobile-additive-time"),
        "no-reweighting": weighed(change=None),
        "one-scale": built_as("tamvt-mobile-one-scale"),
        "backbone-masks": built_as("tamvt-mobile-backbone-masks"),
    }
)
# Recipes of the paper's other rows; not in the table unless they are asked for.
FURTHER_ABLATIONS: Mapping[str, Variation] = MappingProxyType(
    {
        "tau-half": weighed(tau=0.5),
        "tau-two": weighed(tau=2.0),
        "components": weighed(change="components"),
        "center": weighed(change="center"),
        "on-dice": weighed(weighted="dice"),
        "on-both": weighed(weighted="both"),
        "frames-4": of_frames(4),
        "frames-9": of_frames(9),
        "frames-12": of_frames(12),
    }
)
ABLATION_ROWS: Mapping[str, Variation] = MappingProxyType({**ABLATIONS, **FURTHER_ABLATIONS})


def r50(data: Path, samples: SampleConfig) -> TrainConfig:
    """Return the numbers of the authors' scripts (the published repository, section 10)."""
    return TrainConfig(
        "tamvt-r50",
        samples,
        data / "backbone" / "resnet50_imagenet.pth",
        steps=30_000,
        rate=1e-4,
        backbone_rate=2e-5,
        weight_decay=1e-4,
        warm_up=300,
        decay_share=0.0,
        drops=(0.4, 0.8),
        gradient_clip=0.1,
        ema=0.9998,
        loss=LossConfig("published", change="area"),
        recompute=True,
    )


def r50_static(data: Path) -> TrainConfig:
    """Return the paper's first stage: samples of 6 frames of still pictures, no re-weighting."""
    sets = (
        StillSet("coco", data / "coco", "train", 0.6),
        StillSet("ecssd", data / "ecssd", weight=0.1),
        StillSet("msra10k", data / "msra10k", weight=0.2),
        StillSet("voc", data / "VOCdevkit" / "VOC2012", "trainval", 0.1),
    )
    samples = SampleConfig(
        data=data, seed=1, crop=465, frames=6, batch=1, synthetic_share=1.0, still_sets=sets
    )
    return replace(r50(data, samples), loss=LossConfig("published"), frozen=("time.",))


def r50_video(data: Path, *sets: VideoSet, frames: int, crop: int) -> TrainConfig:
    """Return the paper's second stage on videos of `frames` frames, from `r50_static`'s weights."""
    samples = SampleConfig(
        data=data,
        seed=1,
        crop=crop,
        frames=frames,
        batch=1,
        synthetic_share=0.0,
        max_frame_step=1,
        video_sets=sets,
    )
    return replace(r50(data, samples), backbone_weights=None, fresh_time=True)


def r50_vost(data: Path) -> TrainConfig:
    """Return the second stage on VOST: 12 frames, one of which is the reference."""
    return r50_video(data, VideoSet("vost", data / "VOST"), frames=12, crop=480)


def r50_visor(data: Path) -> TrainConfig:
    """Return the second stage on VISOR: 6 frames."""
    return r50_video(data, VideoSet("visor", data / "VISOR"), frames=6, crop=480)


def r50_davis(data: Path) -> TrainConfig:
    """Return DAVIS 2017 and YouTube-VOS together, as the paper trains for them."""
    sets = (
        VideoSet("davis2017", data / "DAVIS"),
        VideoSet("youtube-vos", data / "YouTubeVOS"),
    )
    return r50_video(data, *sets, frames=6, crop=465)


def smoke(data: Path) -> TrainConfig:
    """Return a minute's training that shows whether everything works; its result is worthless."""
    samples = SampleConfig(
        data=data, seed=1, crop=64, frames=4, batch=2, synthetic_share=0.5, static_sets=("ecssd",)
    )
    return TrainConfig(
        "tamvt-mobile",
        samples,
        None,
        steps=40,
        warm_up=5,
        checkpoint_every=10,
        keep_every=20,
        pictures_every=10,
    )


RECIPES: Mapping[str, Callable[[Path], TrainConfig]] = MappingProxyType(
    {
        "tamvt-mobile": mobile,
        "tamvt-mobile-loop": mobile_loop,
        "tamvt-mobile-large": mobile_large,
        "tamvt-mobile-deeplab": mobile_deeplab,
        "tamvt-mobile-equal": partial(family, build="tamvt-mobile", loop=LoopConfig()),
        "stm-mobile": partial(family, build="stm-mobile", loop=LoopConfig(keep_every=(2, 5))),
        "qmvos-mobile": partial(family, build="qmvos-mobile", loop=LoopConfig(keep_every=(2, 5))),
        "stma-mobile": partial(
            family, build="stma-mobile", loop=LoopConfig(memory_size=3, keep_every=(2, 5))
        ),
        "tamvt-mobile-static": mobile_static,
        "tamvt-mobile-video": mobile_video,
        "tamvt-mobile-transformation": mobile_transformation,
        "tamvt-mobile-published-loss": mobile_published_loss,
        "tamvt-mobile-without-time": mobile_without_time,
        "tamvt-r50-static": r50_static,
        "tamvt-r50-vost": r50_vost,
        "tamvt-r50-visor": r50_visor,
        "tamvt-r50-davis": r50_davis,
        "smoke": smoke,
        **{f"tamvt-mobile-ablation-{row}": partial(ablation, row=row) for row in ABLATION_ROWS},
    }
)
