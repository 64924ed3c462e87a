"""A session that goes on for as long as it is measured, on the built-in sample, and its machine.

Letters: L frames of a clip, N entries, O objects, h and w the model's size.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.core.memory import Memory
from model.core.pixels import resize_frame, resize_masks
from service.engines.base import Engine, EntryPicture
from service.media.sample import draw_sample


@dataclass(frozen=True, slots=True)
class SampleFootage:
    """The sample at the model's size, to be played over and over."""

    frames: NDArray[np.uint8]  # (F, h, w, 3)
    mask: NDArray[np.uint8]  # (h, w): the object in frame 0, as a soft mask

    def masks(self, objects: int) -> NDArray[np.uint8]:
        """Return the object's mask in as many upright strips as there are objects, (O, h, w)."""
        return cut_into_strips(self.mask, objects)


def cut_into_strips(mask: NDArray[np.uint8], objects: int) -> NDArray[np.uint8]:
    """Return a mask (h, w) as so many masks of equally wide upright strips of it, (O, h, w)."""
    columns = np.array_split(np.flatnonzero(mask.any(axis=0)), objects)
    strips = np.zeros((objects, *mask.shape), np.uint8)
    for strip, wanted in zip(strips, columns, strict=True):
        strip[:, wanted] = mask[:, wanted]
    return strips


class SteadySession:
    """A session of the engine that goes on for as long as it is asked for clips."""

    def __init__(
        self,
        engine: Engine,
        footage: SampleFootage,
        *,
        objects: int,
        clip_length: int,
        memory_size: int,
        name: str = "bench",
    ) -> None:
        self._engine = engine
        self._name = name
        self._object_ids = tuple(range(1, objects + 1))
        self._reference = EntryPicture(footage.frames[0], footage.masks(objects))
        self._memory = Memory.start(0, self._object_ids, capacity=memory_size)
        self._clip_length = clip_length
        self._footage = cycle(footage.frames[1:])
        self._version = 1
        self.next_frame = 1

    async def fill(self) -> None:
        """Runs clips until the bank is full, and a few more."""
        for _ in range(self._memory.capacity + 2):
            await self.clip_ms()

    async def clip_ms(self) -> float:
        """Milliseconds of the next clip: masks, and the entry of its last frame."""
        frames = np.stack(list(islice(self._footage, self._clip_length)))  # (L, h, w, 3)
        before, last = self._memory, self.next_frame + self._clip_length - 1
        after = before.remember(last, self._object_ids, self._engine.spec.retention)
        started = time.perf_counter()
        async with self._engine.lease(
            self._name,
            version=self._version,
            memory=before,
            model_size=frames.shape[1:3],
            pictures=self._pictures,
        ) as lease:
            await lease.segment(frames, before=before, object_ids=self._object_ids)
            if after is not before:
                await lease.remember(after)
            lease.commit(self._version + 1)
        self._memory, self.next_frame, self._version = after, last + 1, self._version + 1
        return (time.perf_counter() - started) * 1000

    async def _pictures(self) -> Sequence[EntryPicture]:
        assert self._version == 1, "the engine lost the bank of a session in use"
        return [self._reference]


def scale_sample_footage(size: tuple[int, int]) -> SampleFootage:
    """Return the built-in sample at the model's size (h, w)."""
    pictures, labels = zip(*draw_sample(), strict=True)
    reference = (labels[0] > 0).astype(np.uint8)[None] * np.uint8(255)  # (1, H, W)
    return SampleFootage(
        frames=np.stack([resize_frame(picture, size) for picture in pictures]),
        mask=resize_masks(reference, size)[0],
    )


def processor() -> str:
    """Return the processor's name, as Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")
