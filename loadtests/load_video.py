"""Encoded frames and the mask of the first, in memory and in a folder.

Read by programs of other environments too (Locust's users): the standard library alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoadVideo:
    """Encoded frames and the reference mask, which shows so many objects."""

    frames: list[bytes]
    mask: bytes
    name: str = "sample"
    objects: int = 1

    def endless(self, first: int = 1) -> Iterator[bytes]:
        """Yield the frames forward and backward for ever, so that nothing jumps."""
        order = [*range(len(self.frames)), *range(len(self.frames) - 2, 0, -1)]
        number = first
        while True:
            yield self.frames[order[number % len(order)]]
            number += 1

    def write(self, folder: Path) -> None:
        """Write it as a folder of its name in `folder`, for `read_load_videos`."""
        target = folder / f"{self.name}-{self.objects}"
        target.mkdir(parents=True)
        for number, frame in enumerate(self.frames):
            (target / f"{number:05}.jpg").write_bytes(frame)
        (target / "mask.png").write_bytes(self.mask)


def read_load_videos(folder: Path) -> list[LoadVideo]:
    """Return the videos that were written there, in the order of their names."""
    found = []
    for place in sorted(folder.iterdir()):
        name, _, objects = place.name.rpartition("-")
        frames = [path.read_bytes() for path in sorted(place.glob("*.jpg"))]
        found.append(LoadVideo(frames, (place / "mask.png").read_bytes(), name, int(objects)))
    return found
