"""COCO: an image for each frame, an annotation for each object in it, a category for each object.

`pycocotools` reads it. Beside COCO's own members a frame tells `video_frame` and `timestamp` (in
seconds), an annotation `track_id`, `score` and `state`: the page writes the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from model.core.encoding import decode_polygons, decode_rle, encode_rle
from model.core.masks import MaskError
from service.media.formats.annotated import (
    USUAL_FPS,
    AnnotatedFrame,
    AnnotatedObject,
    AnnotatedVideo,
    File,
)

Side = Annotated[int, Field(ge=1, le=1 << 16)]
ObjectId = Annotated[int, Field(ge=1, le=254)]
# Names of files and objects go into paths, XML and lines: without what ends them.
Name = Annotated[str, Field(max_length=1000, pattern="^[^\\x00-\\x1f\\x7f\\ufffe\\uffff]*$")]


class Image(BaseModel):
    """A frame."""

    model_config = ConfigDict(frozen=True)

    id: int
    width: Side
    height: Side
    file_name: Name
    video_frame: Annotated[int, Field(ge=0, le=1 << 53)] | None = None
    timestamp: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None


class Annotation(BaseModel):
    """An object in a frame; without `track_id` its category is the object."""

    model_config = ConfigDict(frozen=True)

    image_id: int
    category_id: int
    segmentation: JsonValue
    track_id: ObjectId | None = None
    score: Annotated[float, Field(ge=0, le=1)] = 1.0
    state: Annotated[str, Field(max_length=20)] = "human"


class Category(BaseModel):
    """What is told of an object."""

    model_config = ConfigDict(frozen=True)

    id: int
    name: Name


class Info(BaseModel):
    """What is told of the video."""

    model_config = ConfigDict(frozen=True)

    description: Name = "video"
    fps: Annotated[float, Field(gt=0, le=1000)] = USUAL_FPS
    frames: Annotated[int, Field(ge=0, le=1 << 53)] = 0


class Document(BaseModel):
    """What is read of a COCO file; other members are ignored."""

    model_config = ConfigDict(frozen=True)

    info: Info = Info()
    images: tuple[Image, ...]
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...] = ()


DOCUMENT: TypeAdapter[Document] = TypeAdapter(Document)


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield `NAME.json`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame in video.frames:
        height, width = frame.size
        images.append(
            {
                "id": frame.number,
                "width": width,
                "height": height,
                "file_name": frame.image,
                "video_frame": frame.number,
                "timestamp": round(frame.time_s, 6),
            }
        )
        for each in frame.objects:
            if each.area:
                first_id = len(annotations) + 1  # 0 is no annotation to pycocotools
                annotations.append(annotation_json(first_id, frame.number, each))
    categories = [{"id": object_id, "name": label} for object_id, label in video.labels.items()]
    info = {"description": video.name, "fps": video.fps, "frames": video.count}
    document = {
        "info": info,
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    yield f"{video.name}.json", json.dumps(document).encode()


def annotation_json(number: int, image_id: int, each: AnnotatedObject) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": each.object_id,
        "track_id": each.object_id,
        "segmentation": encode_rle(each.mask),
        "area": each.area,
        "bbox": each.box,
        "iscrowd": 0,
        "score": round(each.confidence, 4),
        "state": each.state,
    }


def parse(text: bytes, *, name: str) -> Document:
    """Return a COCO file's members; raise MaskError, in which `name` stands, where it is none."""
    try:
        return DOCUMENT.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step)[:100] for step in first["loc"]) or "its JSON"
        raise MaskError(f"{name} is no COCO file: {where}: {first['msg']}") from error


def count_pixels(document: Document) -> int:
    """Return how many pixels all masks and images have together."""
    sizes = {image.id: image.width * image.height for image in document.images}
    drawn = sum(sizes.get(each.image_id, 0) for each in document.annotations)
    return drawn + sum(image.width * image.height for image in document.images)


def measure_largest_frame(document: Document) -> int:
    """Return the bytes of the frame that takes most, decoded: its masks, and its label map."""
    masks = Counter(each.image_id for each in document.annotations)
    return max(
        (image.width * image.height * (masks[image.id] + 2) for image in document.images), default=0
    )


def read_video(document: Document) -> AnnotatedVideo:
    """Return the video, whose masks are decoded when they are gone through.

    Raises:
        MaskError: objects or images do not fit together.
    """
    known = {image.id for image in document.images}
    if len(known) != len(document.images):
        raise MaskError("two images of the COCO file have one id")
    tracks = {each.track_id or each.category_id: each.category_id for each in document.annotations}
    if any(not 1 <= object_id <= 254 for object_id in tracks):
        raise MaskError("the COCO file has objects beyond 1 to 254: give each a track_id")
    if any(each.image_id not in known for each in document.annotations):
        raise MaskError("the COCO file has an annotation of an image that it does not list")
    names = {category.id: category.name for category in document.categories}
    labels = {
        object_id: names.get(category) or f"object {object_id}"
        for object_id, category in sorted(tracks.items())
    }
    ordered = sorted(
        enumerate(document.images),
        key=lambda pair: pair[0] if pair[1].video_frame is None else pair[1].video_frame,
    )
    frames = _CocoFrames([image for _, image in ordered], document.annotations, document.info.fps)
    count = max([document.info.frames, *(number + 1 for number in frames.numbers)])
    name = PurePosixPath(document.info.description.replace("\\", "/")).name or "video"
    return AnnotatedVideo(name, labels, frames, count, document.info.fps)


@dataclass(frozen=True)
class _CocoFrames(Iterable[AnnotatedFrame]):
    """The frames of a document: one at a time is decoded."""

    images: Sequence[Image]
    annotations: Sequence[Annotation]
    fps: float

    @property
    def numbers(self) -> list[int]:
        return [
            index if image.video_frame is None else image.video_frame
            for index, image in enumerate(self.images)
        ]

    def __iter__(self) -> Iterator[AnnotatedFrame]:
        by_image: Mapping[int, list[Annotation]] = {
            image_id: list(group)
            for image_id, group in groupby(
                sorted(self.annotations, key=lambda each: each.image_id),
                key=lambda each: each.image_id,
            )
        }
        for number, image in zip(self.numbers, self.images, strict=True):
            size = (image.height, image.width)
            objects = tuple(decode_annotation(each, size) for each in by_image.get(image.id, ()))
            time_s = number / self.fps if image.timestamp is None else image.timestamp
            yield AnnotatedFrame(number, image.file_name, size, objects, time_s)


def decode_annotation(each: Annotation, size: tuple[int, int]) -> AnnotatedObject:
    shape = each.segmentation
    mask = decode_rle(shape, size) if isinstance(shape, dict) else decode_polygons(shape, size)
    return AnnotatedObject(each.track_id or each.category_id, mask, each.score, each.state)
