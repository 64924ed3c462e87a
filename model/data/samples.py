"""Clips to train on: still pictures made to move and real video, mixed, and put in batches.

B clips, F frames (the first is the reference). A clip is a pure function of (seed, step, index),
so a training that stopped goes on with exactly the data it would have seen.
"""

import ctypes
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from model.data.augment import darken, draw_look, finish
from model.data.errors import DataError
from model.data.layouts import StillSet, VideoSet
from model.data.overlay import VideoFootage, add_objects, add_something, shows_target
from model.data.pictures import LabeledStill
from model.data.static import (
    SET_WEIGHTS,
    Pixels,
    Still,
    StillPaths,
    keep_shown,
    list_stills,
    read_still,
)
from model.data.synthetic import MIN_SHARE, make_sample
from model.data.video import Video, cut_sample, open_video, training_names

_MAX_TRIES = 50
_PR_SET_PDEATHSIG = 1  # prctl(2): the signal that a process gets when its parent dies
_BATCHES_AHEAD = 4
_OBJECTS = 1 << 30  # in place of an index: the draw of a whole step
_MOST_OBJECTS = 8


@dataclass(frozen=True, slots=True)
class SampleConfig:
    """What to draw clips from, and how they look.

    `crop` is the side in pixels; `frames` counts the reference; `videos` None means all of
    `video/train.txt`; steps between the frames of a video are 1 to `max_frame_step`, or twice
    that where little moves. To `pasted_share` of the video clips something is added. Published
    data sets in `still_sets` and `video_sets` take the place of those in `data`. The videos below
    `extra` are drawn with `extra_weight` where those of `video` have weight 1, and those that were
    rendered into the folder `rendered` with `rendered_weight`. `objects` are the shares of steps
    whose clips have up to 1, 2, ... objects. A `dark_share` of the clips is made as dark and noisy
    as a camera sees at night.
    """

    data: Path
    seed: int
    crop: int = 256
    frames: int = 7
    batch: int = 4
    synthetic_share: float = 0.65
    pasted_share: float = 0.5
    extra_weight: float = 0.0
    rendered_weight: float = 0.0
    objects: tuple[float, ...] = (1.0,)
    dark_share: float = 0.0
    max_frame_step: int = 5
    static_sets: tuple[str, ...] = tuple(SET_WEIGHTS)
    videos: tuple[str, ...] | None = None
    still_sets: tuple[StillSet, ...] = ()
    video_sets: tuple[VideoSet, ...] = ()
    rendered: Path | None = None

    def __post_init__(self) -> None:
        for name in ("crop", "frames", "batch", "max_frame_step"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("synthetic_share", "pasted_share", "dark_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name} must lie in 0..1, not {getattr(self, name)}")
        if self.rendered_weight < 0 or (self.rendered_weight and self.rendered is None):
            raise DataError("rendered_weight is at least 0, and needs a folder of rendered clips")
        if not 1 <= len(self.objects) <= _MOST_OBJECTS or min(self.objects) < 0:
            raise DataError(f"objects are 1 to {_MOST_OBJECTS} shares, not {self.objects}")
        if sum(self.objects) <= 0:
            raise DataError("one of the shares of objects must be above 0")

    def objects_of(self, step: int) -> int:
        """Return how many objects the clips of a step have at most."""
        if len(self.objects) == 1:
            return 1
        rng = np.random.default_rng([self.seed, step, _OBJECTS])
        return 1 + int(rng.choice(len(self.objects), p=_shares(list(self.objects))))

    @property
    def pastes(self) -> bool:
        """Do pictures and videos mix? Not where published videos come without pictures."""
        mixes = bool(self.still_sets) or not self.video_sets
        return mixes and self.pasted_share > 0 and self.synthetic_share < 1


class Sample(NamedTuple):
    """frames uint8 (F, H, W, 3) RGB; masks uint8 (F, H, W) of labels; where it comes from.

    Label 0 is background, the objects are 1, 2, ..., each seen in the first frame. `traits` name
    what was drawn to make it: a scene, changes of the target, looks.
    """

    frames: Pixels
    masks: Pixels
    source: str
    traits: tuple[str, ...] = ()


class SampleBatch(NamedTuple):
    """frames uint8 (B, F, H, W, 3) RGB; masks uint8 (B, F, H, W) of labels; the sources."""

    frames: Pixels
    masks: Pixels
    sources: tuple[str, ...]

    @property
    def objects(self) -> int:
        """Return the most objects that a clip of the batch has."""
        return max(1, int(self.masks[:, 0].max()))


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that a configuration draws from."""

    sets: tuple[tuple[StillPaths, ...] | tuple[LabeledStill, ...], ...]
    set_shares: tuple[float, ...]
    videos: tuple[Video, ...]
    video_shares: tuple[float, ...]
    same_category: Mapping[str, tuple[StillPaths, ...]]

    def draw_still(self, rng: np.random.Generator) -> Still:
        """Return a picture of a set drawn by weight."""
        stills = self.sets[int(rng.choice(len(self.sets), p=self.set_shares))]
        still = stills[int(rng.integers(len(stills)))]
        return read_still(still) if isinstance(still, StillPaths) else still.read()

    def draw_same_category(self, kind: str, rng: np.random.Generator) -> Still | None:
        """Return a picture with an object of that kind, or None where none is known."""
        stills = self.same_category.get(kind, ())
        return read_still(stills[int(rng.integers(len(stills)))]) if stills else None

    def draw_video(self, rng: np.random.Generator) -> Video:
        """Return a video; long ones are somewhat likelier."""
        return self.videos[int(rng.choice(len(self.videos), p=self.video_shares))]


@lru_cache(maxsize=4)
def open_sources(config: SampleConfig) -> Sources:
    """Return the files of `config`.

    Raise DataError for what is missing, unknown or kept for choosing.
    """
    videos, video_weights = _open_videos(config) if config.synthetic_share < 1 else ((), [])
    wanted = config.synthetic_share > 0 or config.pastes
    sets, set_weights = _open_stills(config) if wanted else ((), [])
    return Sources(
        sets, _shares(set_weights), videos, _shares(video_weights), _group_by_category(sets)
    )


def _group_by_category(
    sets: tuple[tuple[StillPaths, ...] | tuple[LabeledStill, ...], ...],
) -> Mapping[str, tuple[StillPaths, ...]]:
    """Return the pictures that show each kind of object, as far as kinds are known."""
    same_category: dict[str, list[StillPaths]] = defaultdict(list)
    for still in (still for stills in sets for still in stills):
        if isinstance(still, StillPaths):
            for kind in dict.fromkeys(still.kinds):
                same_category[kind].append(still)
    return {kind: tuple(stills) for kind, stills in same_category.items()}


def _open_stills(config: SampleConfig) -> tuple[Any, list[float]]:
    """Return the sets of pictures and how often each is drawn."""
    if config.still_sets:
        return tuple(s.open() for s in config.still_sets), [s.weight for s in config.still_sets]
    unknown = sorted(set(config.static_sets) - set(SET_WEIGHTS))
    if unknown:
        raise DataError(f"unknown static sets: {', '.join(unknown)}")
    sets = tuple(list_stills(config.data / "static" / name) for name in config.static_sets)
    return sets, [SET_WEIGHTS[name] for name in config.static_sets]


def _open_videos(config: SampleConfig) -> tuple[tuple[Video, ...], list[float]]:
    """Return the videos and each one's weight: long ones are drawn more often within a set."""
    opened = [(each.weight, each.open()) for each in config.video_sets]
    if not config.video_sets:
        root = config.data / "video"
        names = training_names(root, config.videos)
        opened.append((1.0, tuple(open_video(root, name) for name in names)))
        if config.extra_weight:
            opened.append((config.extra_weight, VideoSet("extra", config.data / "extra").open()))
    if config.rendered is not None and config.rendered_weight:
        opened.append((config.rendered_weight, VideoSet("rendered", config.rendered).open()))
    weights: list[float] = []
    for weight, videos in opened:
        shares = _shares([np.sqrt(len(video.frames)) * video.weight for video in videos])
        weights += [weight * share for share in shares]
    return tuple(video for _, videos in opened for video in videos), weights


def _shares(weights: list[float]) -> tuple[float, ...]:
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def draw_sample(config: SampleConfig, step: int, index: int) -> Sample:
    """Return sample `index` of a step; it is always the same for the same configuration."""
    sources = open_sources(config)
    rng = np.random.default_rng([config.seed, step, index])
    make = _synthetic if rng.random() < config.synthetic_share else _from_video
    objects = config.objects_of(step)
    for _ in range(_MAX_TRIES):
        sample = make(sources, config, rng, objects)
        if sample is not None:
            dark = config.dark_share and rng.random() < config.dark_share
            if not dark:
                return sample
            at_night = darken(sample.frames, rng)
            return sample._replace(frames=at_night, traits=(*sample.traits, "dark"))
    raise DataError(
        f"{_MAX_TRIES} draws in a row showed no object: are the masks of {config.data} empty?"
    )


def _synthetic(
    sources: Sources, config: SampleConfig, rng: np.random.Generator, objects: int
) -> Sample | None:
    made = make_sample(sources, rng, size=config.crop, frames=config.frames, objects=objects)
    return None if made is None else Sample(made.frames, made.masks, "static", made.traits)


def _from_video(
    sources: Sources, config: SampleConfig, rng: np.random.Generator, objects: int
) -> Sample | None:
    video = sources.draw_video(rng)
    cut = partial(cut_sample, rng=rng, size=config.crop, frames=config.frames)
    cut = partial(cut, max_step=config.max_frame_step)
    found = cut(video, objects=objects)
    if found is None:
        return None
    footage = VideoFootage(*found)
    if config.pastes and objects > 1:
        if footage.seen.max() < objects or rng.random() < config.pasted_share:
            footage = add_objects(footage, sources, rng, objects=objects)
        footage = footage._replace(seen=keep_shown(footage.seen, least=MIN_SHARE))
        if not footage.seen[0].any():
            return None
    elif config.pastes and rng.random() < config.pasted_share:
        footage = add_something(
            footage, sources, lambda: cut(sources.draw_video(rng), empty=True), rng
        )
        if not shows_target(footage):
            return None
    look = draw_look(rng, frames=config.frames, strength=0.65)
    for moment, image in enumerate(footage.frames):
        footage.frames[moment] = finish(image, look, moment, rng)
    traits = footage.traits + look.traits
    return Sample(footage.frames, footage.seen, f"video/{video.name}", traits)


def make_batch(config: SampleConfig, step: int, *, part: int = 0) -> SampleBatch:
    """Return the clips of one step, or of one of its parts of `config.batch` clips each."""
    first = part * config.batch
    samples = [draw_sample(config, step, first + index) for index in range(config.batch)]
    return SampleBatch(
        frames=np.stack([sample.frames for sample in samples]),
        masks=np.stack([sample.masks for sample in samples]),
        sources=tuple(sample.source for sample in samples),
    )


class _Steps(Dataset[SampleBatch]):
    """The batches of a configuration, by step and part."""

    def __init__(self, config: SampleConfig) -> None:
        self._config = config

    def __getitem__(self, place: tuple[int, int]) -> SampleBatch:
        step, part = place
        return make_batch(self._config, step, part=part)


def yield_batches(
    config: SampleConfig, first_step: int, workers: int = 1, *, parts: Sequence[int] = (0,)
) -> Iterator[SampleBatch]:
    """Yield the batches of first_step, first_step + 1, ... without end: the given parts of each.

    `workers` background processes prepare at most 4 batches each ahead (0: this process does);
    a DataError comes at once where files are missing.
    """
    open_sources(config)
    loader: DataLoader[SampleBatch] = DataLoader(
        _Steps(config),
        batch_size=None,
        sampler=((step, part) for step in count(first_step) for part in parts),
        num_workers=workers,
        prefetch_factor=_BATCHES_AHEAD if workers else None,
        collate_fn=_as_is,
        worker_init_fn=_start_worker,
    )
    return _plainly(iter(loader))


def _plainly(batches: Iterator[SampleBatch]) -> Iterator[SampleBatch]:
    """Yield the batches.

    An error of a worker tells what was wrong, without the worker's traceback.
    """
    try:
        yield from batches
    except DataError as error:
        raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """Put a data worker into a session of its own, so that it outlives a signal to the group.

    `torchrun` and terminals send SIGTERM and SIGINT to the whole process group. If workers died of
    it, PyTorch would raise in the trainer wherever it is, at worst while it writes the checkpoint
    for which the signal gave it time. If they ignored it, they would not end at Python's exit.
    """
    # One thread each: the model needs the others.
    cv2.setNumThreads(0)
    # A signal to the trainer's process group is the trainer's to handle: it still needs its data.
    os.setsid()
    # Not the trainer's handler, which a fork inherits: it would keep the worker alive.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A trainer that is killed cannot tell its workers, and one with clips to hand over waits.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
