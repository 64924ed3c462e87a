"""Clips to train on: still pictures made to move and real video, mixed, and put in batches.

B clips, F frames (the first is the reference). A clip is a pure function of (seed, step, index),
so a training that stopped goes on with exactly the data it would have seen.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from model.data.errors import DataError
from model.data.layouts import StillSet, VideoSet
from model.data.pictures import LabelledStill
from model.data.static import SET_WEIGHTS, Pixels, Still, StillPaths, list_stills, read_still
from model.data.synthetic import make_clip
from model.data.video import Video, cut_clip, open_video, training_names

_MAX_TRIES = 50
_BATCHES_AHEAD = 4


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """What to draw clips from, and how they look.

    `crop` is the side in pixels; `frames` counts the reference; `videos` None means all of
    `video/train.txt`; steps between the frames of a video are 1 to `max_frame_step`. Published
    data sets in `still_sets` and `video_sets` take the place of those in `data`.
    """

    data: Path
    seed: int
    crop: int = 256
    frames: int = 7
    batch: int = 4
    synthetic_share: float = 0.65
    max_frame_step: int = 5
    static_sets: tuple[str, ...] = tuple(SET_WEIGHTS)
    videos: tuple[str, ...] | None = None
    still_sets: tuple[StillSet, ...] = ()
    video_sets: tuple[VideoSet, ...] = ()

    def __post_init__(self) -> None:
        for name in ("crop", "frames", "batch", "max_frame_step"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.synthetic_share <= 1:
            raise DataError(f"synthetic_share must lie in 0..1, not {self.synthetic_share}")


class Clip(NamedTuple):
    """frames uint8 (F, H, W, 3) RGB; masks uint8 (F, H, W) of 0 and 1; where it comes from."""

    frames: Pixels
    masks: Pixels
    source: str


class ClipBatch(NamedTuple):
    """frames uint8 (B, F, H, W, 3) RGB; masks uint8 (B, F, H, W) of 0 and 1; the sources."""

    frames: Pixels
    masks: Pixels
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that a configuration draws from."""

    sets: tuple[tuple[StillPaths, ...] | tuple[LabelledStill, ...], ...]
    set_shares: tuple[float, ...]
    videos: tuple[Video, ...]
    video_shares: tuple[float, ...]

    def draw_still(self, rng: np.random.Generator) -> Still:
        """A picture of a set drawn by weight."""
        stills = self.sets[int(rng.choice(len(self.sets), p=self.set_shares))]
        still = stills[int(rng.integers(len(stills)))]
        return read_still(still) if isinstance(still, StillPaths) else still.read()

    def draw_video(self, rng: np.random.Generator) -> Video:
        """A video; long ones are somewhat likelier."""
        return self.videos[int(rng.choice(len(self.videos), p=self.video_shares))]


@lru_cache(maxsize=4)
def open_sources(config: ClipConfig) -> Sources:
    """The files of `config`; what is missing, unknown or kept for choosing is a DataError."""
    sets, set_weights = _open_stills(config) if config.synthetic_share > 0 else ((), [])
    videos, video_weights = _open_videos(config) if config.synthetic_share < 1 else ((), [])
    return Sources(sets, _shares(set_weights), videos, _shares(video_weights))


def _open_stills(config: ClipConfig) -> tuple[Any, list[float]]:
    """The sets of pictures and how often each is drawn."""
    if config.still_sets:
        return tuple(s.open() for s in config.still_sets), [s.weight for s in config.still_sets]
    unknown = sorted(set(config.static_sets) - set(SET_WEIGHTS))
    if unknown:
        raise DataError(f"unknown static sets: {', '.join(unknown)}")
    sets = tuple(list_stills(config.data / "static" / name) for name in config.static_sets)
    return sets, [SET_WEIGHTS[name] for name in config.static_sets]


def _open_videos(config: ClipConfig) -> tuple[tuple[Video, ...], list[float]]:
    """The videos and how often each is drawn: long ones more often, within a set's weight."""
    if not config.video_sets:
        root = config.data / "video"
        names = training_names(root, config.videos)
        videos = tuple(open_video(root, name) for name in names)
        return videos, [np.sqrt(len(video.frames)) for video in videos]
    opened = [(each.weight, each.open()) for each in config.video_sets]
    weights = []
    for weight, videos in opened:
        shares = _shares([np.sqrt(len(video.frames)) for video in videos])
        weights += [weight * share for share in shares]
    return tuple(video for _, videos in opened for video in videos), weights


def _shares(weights: list[float]) -> tuple[float, ...]:
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def sample(config: ClipConfig, step: int, index: int) -> Clip:
    """Clip `index` of step `step`: always the same for the same configuration."""
    sources = open_sources(config)
    rng = np.random.default_rng([config.seed, step, index])
    synthetic = rng.random() < config.synthetic_share
    for _ in range(_MAX_TRIES):
        clip = _synthetic(sources, config, rng) if synthetic else _from_video(sources, config, rng)
        if clip is not None:
            return clip
    raise DataError(
        f"{_MAX_TRIES} draws in a row showed no object: are the masks of {config.data} empty?"
    )


def _synthetic(sources: Sources, config: ClipConfig, rng: np.random.Generator) -> Clip | None:
    made = make_clip(sources.draw_still, rng, size=config.crop, frames=config.frames)
    return None if made is None else Clip(*made, source="static")


def _from_video(sources: Sources, config: ClipConfig, rng: np.random.Generator) -> Clip | None:
    video = sources.draw_video(rng)
    cut = cut_clip(
        video, rng, size=config.crop, frames=config.frames, max_step=config.max_frame_step
    )
    return None if cut is None else Clip(*cut, source=f"video/{video.name}")


def make_batch(config: ClipConfig, step: int, *, part: int = 0) -> ClipBatch:
    """The clips of one step, or of one of its parts of `config.batch` clips each."""
    first = part * config.batch
    clips = [sample(config, step, first + index) for index in range(config.batch)]
    return ClipBatch(
        frames=np.stack([clip.frames for clip in clips]),
        masks=np.stack([clip.masks for clip in clips]),
        sources=tuple(clip.source for clip in clips),
    )


class _Steps(Dataset[ClipBatch]):
    """The batches of a configuration, by step and part."""

    def __init__(self, config: ClipConfig) -> None:
        self._config = config

    def __getitem__(self, place: tuple[int, int]) -> ClipBatch:
        step, part = place
        return make_batch(self._config, step, part=part)


def clip_batches(
    config: ClipConfig, first_step: int, workers: int = 1, *, parts: Sequence[int] = (0,)
) -> Iterator[ClipBatch]:
    """The batches of first_step, first_step + 1, ... without end; of each step the given parts.

    `workers` background processes prepare at most 4 batches each ahead (0: this process does);
    a DataError comes at once where files are missing.
    """
    open_sources(config)
    loader: DataLoader[ClipBatch] = DataLoader(
        _Steps(config),
        batch_size=None,
        sampler=((step, part) for step in count(first_step) for part in parts),
        num_workers=workers,
        prefetch_factor=_BATCHES_AHEAD if workers else None,
        collate_fn=_as_is,
        worker_init_fn=_start_worker,
    )
    return iter(loader)


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    # One thread each: the model needs the others.
    cv2.setNumThreads(0)
    # A signal to the trainer's process group is the trainer's to handle: it still needs its data.
    os.setsid()
    # Not the trainer's handler, which a fork inherits: it would keep the worker alive.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
