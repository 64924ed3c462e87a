"""Other tools' files around a tracking job: masks to begin with, and `OUT/<format>/` after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.core.image_headers import ImageLimits
from model.core.masks import MaskError, split_objects
from model.core.palette import read_label_map, write_label_map
from service.commands.track_job.results import TrackResults
from service.errors import BadOption, BadVideo, DamagedVideo
from service.media.formats import yolo
from service.media.formats.annotated import AnnotatedFrame, AnnotatedObject, AnnotatedVideo
from service.media.formats.registry import (
    FORMATS,
    FormatName,
    read_annotations,
    write_folder,
)
from service.media.images import decode_image
from service.media.prompt_views import PromptModel
from service.media.prompts import Prompt, Touch, segment_prompt
from service.media.video import Source

GIVEN = ("human", 1.0)
# What is no mask image, but holds the masks of a video.
ANNOTATIONS = frozenset({".json", ".txt", ".xml"})


def read_prompt(path: Path, source: Source, number: int, limits: ImageLimits) -> bytes:
    """Return the PNG of the objects in a frame: a file of masks, or what annotations say of it.

    Annotations are searched for the name of the frame's picture, then for its number. A file of
    YOLO's outlines is of one frame, whatever its name.

    Raises:
        MaskError: they are of no format that is read, or have no mask of this frame.
    """
    if path.suffix.lower() not in ANNOTATIONS:
        return path.read_bytes()
    if path.suffix.lower() == ".txt" and yolo.is_outlines(path):
        size = _decode(source, number).shape[:2]
        return write_label_map(yolo.fill_frame(yolo.read_outlines(path), size).labels())
    frames = {frame.number: frame for frame in read_annotations(path, limits=limits).frames}
    stem = source.stem_of(number)
    named = (frame for frame in frames.values() if frame.stem == stem)
    found = next(named, None) or frames.get(number)
    if found is None or not found.objects:
        raise MaskError(f"{path.name} has no mask of {source.name_of(number)}")
    return write_label_map(found.labels())


def segment_clicks(
    clicks: Sequence[str], source: Source, number: int, model: PromptModel | None
) -> tuple[bytes, tuple[str, ...]]:
    """Return the PNG of what is clicked in a frame, as object 1, and warnings of it.

    Without a `model` for prompts GrabCut looks for it.

    Raises:
        BadOption: a click that is no "X,Y" of a pixel in the frame.
        BadVideo: there is no such frame.
        NoObjects: nothing stands out there.
    """
    touches = []
    for click in clicks:
        try:
            x, y = (float(part) for part in click.split(","))
        except ValueError as error:
            raise BadOption(f"--click {click!r} is no pixel: write X,Y, such as 320,240") from error
        touches.append(Touch([(x, y)]))
    found = segment_prompt(_decode(source, number), Prompt(touches), model)
    return write_label_map(found.mask.view(np.uint8)), found.warnings


def _decode(source: Source, number: int) -> NDArray[np.uint8]:
    frame = next(source.frames(first=number), None)
    if frame is None:
        raise BadVideo(f"the video has no frame {number}")
    return decode_image(frame.image)


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
