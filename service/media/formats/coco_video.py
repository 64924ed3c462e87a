"""COCO for video, as YouTube-VIS has it: an annotation for each object, with a mask for each frame.

Its run lengths are COCO's (`pycocotools.mask` reads them); a frame without the object has null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.core.encoding import decode_polygons, decode_rle, encode_rle
from model.core.masks import MaskError
from service.media.formats.annotated import (
    USUAL_FPS,
    AnnotatedFrame,
    AnnotatedObject,
    AnnotatedVideo,
    File,
    name_fault,
)

VIDEO_ID = 1


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield `NAME.json`; the members of an annotation have an item for each frame."""
    height = width = 0
    names: list[str] = []
    numbers: list[int] = []
    rows: dict[int, dict[str, list[Any]]] = {
        object_id: {"segmentations": [], "bboxes": [], "areas": [], "scores": []}
        for object_id in video.labels
    }
    for frame in video.frames:
        height, width = frame.size
        names.append(frame.image)
        numbers.append(frame.number)
        found = {each.object_id: each for each in frame.objects if each.area}
        for object_id, row in rows.items():
            each = found.get(object_id)
            row["segmentations"].append(encode_rle(each.mask) if each else None)
            row["bboxes"].append(each.box if each else None)
            row["areas"].append(each.area if each else None)
            row["scores"].append(round(each.confidence, 4) if each else None)
    size = {"width": width, "height": height, "length": len(names)}
    facts = {"name": video.name, "file_names": names, "frame_numbers": numbers, "fps": video.fps}
    document = {
        "info": {"description": video.name},
        "videos": [{"id": VIDEO_ID, **size, **facts}],
        "annotations": [
            {"id": object_id, "video_id": VIDEO_ID, "category_id": object_id, "iscrowd": 0}
            | size
            | row
            for object_id, row in rows.items()
        ],
        "categories": [{"id": key, "name": label} for key, label in video.labels.items()],
    }
    yield f"{video.name}.json", json.dumps(document).encode()


def read(path: Path, document: dict[str, Any]) -> AnnotatedVideo:
    """Return the first video of a file's document; its annotations are objects 1, 2, ... of it.

    An annotation keeps its id where that is 1 to 254. Raise MaskError where it is no such file.
    """
    try:
        video = document["videos"][0]
        names = {each["id"]: each["name"] for each in document["categories"]}
        size = (int(video["height"]), int(video["width"]))
        files = [str(name) for name in video["file_names"]]
        numbers = [int(number) for number in video.get("frame_numbers") or range(len(files))]
        fps = float(video.get("fps") or USUAL_FPS)
        mine = [each for each in document["annotations"] if each["video_id"] == video["id"]]
        kept = all(1 <= each["id"] <= 254 for each in mine)
        rows = {each["id"] if kept else place: each for place, each in enumerate(mine, start=1)}
        labels = {key: str(names[row["category_id"]]) for key, row in rows.items()}
        frames = [
            AnnotatedFrame(number, file, size, objects_at(rows, place, size), number / fps)
            for place, (number, file) in enumerate(zip(numbers, files, strict=True))
        ]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise MaskError(f"{path.name} is no COCO file of videos: {name_fault(error)}") from error
    return AnnotatedVideo(str(video.get("name", path.stem)), labels, frames, len(frames), fps)


def objects_at(
    rows: dict[int, dict[str, Any]], place: int, size: tuple[int, int]
) -> tuple[AnnotatedObject, ...]:
    """Return the objects that the frame at this place of the file has."""
    shapes = {object_id: row["segmentations"][place] for object_id, row in rows.items()}
    return tuple(
        AnnotatedObject(
            object_id,
            decode_rle(shape, size) if isinstance(shape, dict) else decode_polygons(shape, size),
        )
        for object_id, shape in shapes.items()
        if shape
    )
