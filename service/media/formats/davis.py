"""DAVIS: a palette PNG for each frame, `NAME/STEM.png`, as its evaluation tools take results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model.core.frame_files import sort_naturally
from model.core.image_headers import ImageLimits
from model.core.masks import split_objects
from model.core.palette import read_label_map, write_label_map
from service.media.formats.annotated import (
    USUAL_FPS,
    AnnotatedFrame,
    AnnotatedObject,
    AnnotatedVideo,
    File,
)


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield the label map of every frame."""
    for frame in video.frames:
        yield f"{video.name}/{frame.stem}.png", write_label_map(frame.labels())


def read(folder: Path, *, limits: ImageLimits) -> AnnotatedVideo:
    """Return the masks of a folder of label maps; their names are the frames'.

    Each is read when it is gone through. Raise MaskError and PixelError where one is no label map.
    """
    frames = _Folder(folder, limits)
    ids = sorted({each.object_id for frame in frames for each in frame.objects})
    labels = {object_id: f"object {object_id}" for object_id in ids}
    return AnnotatedVideo(folder.name, labels, frames, len(frames.names))


@dataclass(frozen=True)
class _Folder(Iterable[AnnotatedFrame]):
    folder: Path
    limits: ImageLimits

    @property
    def names(self) -> list[str]:
        return sort_naturally(path.name for path in self.folder.glob("*.png"))

    def __iter__(self) -> Iterator[AnnotatedFrame]:
        for number, name in enumerate(self.names):
            path = self.folder / name
            labels = read_label_map(path.read_bytes(), self.limits)
            size = (labels.shape[0], labels.shape[1])
            objects = tuple(
                AnnotatedObject(*each) for each in zip(*split_objects(labels), strict=True)
            )
            yield AnnotatedFrame(number, f"{path.stem}.jpg", size, objects, number / USUAL_FPS)
