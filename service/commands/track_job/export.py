"""Other tools' files around a tracking job: masks to begin with, and `OUT/<format>/` after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from model.core.image_headers import ImageLimits
from model.core.masks import MaskError, split_objects
from model.core.palette import read_label_map, write_label_map
from service.commands.track_job.results import TrackResults
from service.errors import DamagedVideo
from service.media.formats.annotated import AnnotatedFrame, AnnotatedObject, AnnotatedVideo
from service.media.formats.registry import (
    FORMATS,
    FormatName,
    read_annotations,
    write_folder,
)
from service.media.video import Source

GIVEN = ("human", 1.0)
# What is no mask image, but holds the masks of a video.
ANNOTATIONS = frozenset({".json", ".txt", ".xml"})


def read_prompt(path: Path, source: Source, number: int, limits: ImageLimits) -> bytes:
    """Return the PNG of the objects in a frame: a file of masks, or what annotations say of it.

    Annotations are searched for the name of the frame's picture, then for its number.

    Raises:
        MaskError: they are of no format that is read, or have no mask of this frame.
    """
    if path.suffix.lower() not in ANNOTATIONS:
        return path.read_bytes()
    frames = {frame.number: frame for frame in read_annotations(path, limits=limits).frames}
    stem = source.stem_of(number)
    named = (frame for frame in frames.values() if frame.stem == stem)
    found = next(named, None) or frames.get(number)
    if found is None or not found.objects:
        raise MaskError(f"{path.name} has no mask of {source.name_of(number)}")
    return write_label_map(found.labels())


def export_formats(
    names: Sequence[FormatName], results: TrackResults, source: Source, limits: ImageLimits
) -> Iterator[str]:
    """Write the masks of a job in each format, and yield a line that tells where."""
    frames = _TrackedFrames(results, source, limits)
    ids = sorted({key for states in frames.states.values() for key in states})
    labels = {object_id: f"object {object_id}" for object_id in ids}
    count = source.count or sum(1 for _ in frames)
    video = AnnotatedVideo(source.path.stem, labels, frames, count, source.fps)
    for name in names:
        folder = results.out / name
        write_folder(folder, FORMATS[name].files(video))
        yield f"{name} in {folder}"


@dataclass(frozen=True)
class _TrackedFrames(Iterable[AnnotatedFrame]):
    """The frames of a source that have masks, read again in each pass."""

    results: TrackResults
    source: Source
    limits: ImageLimits

    @cached_property
    def states(self) -> Mapping[str, Mapping[int, tuple[str, float]]]:
        return self.results.states_of()

    def __iter__(self) -> Iterator[AnnotatedFrame]:
        with suppress(DamagedVideo):  # told when it was tracked
            for number, time_s, picture in self.source.pictures():
                stem = self.source.stem_of(number)
                file = self.results.name_mask_file(stem)
                if not file.exists():
                    continue
                labels = read_label_map(file.read_bytes(), self.limits)
                states = self.states.get(stem, {})
                objects = []
                for object_id, mask in zip(*split_objects(labels), strict=True):
                    state, confidence = states.get(object_id, GIVEN)
                    objects.append(AnnotatedObject(object_id, mask, confidence, state))
                size = (labels.shape[0], labels.shape[1])
                image = self.source.name_image(number)
                yield AnnotatedFrame(number, image, size, tuple(objects), time_s, picture)
