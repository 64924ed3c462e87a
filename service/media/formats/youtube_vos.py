"""YouTube-VOS: `Annotations/NAME/STEM.png` in DAVIS's palette, and `meta.json` of the objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.core.masks import MaskError
from model.core.palette import write_label_map
from service.media.formats.annotated import AnnotatedVideo, File, name_fault


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield the label maps, and which objects are in which frames."""
    objects: dict[str, dict[str, Any]] = {
        str(object_id): {"category": label, "frames": []}
        for object_id, label in video.labels.items()
    }
    for frame in video.frames:
        for each in frame.disjoint():
            objects[str(each.object_id)]["frames"].append(frame.stem)
        yield f"Annotations/{video.name}/{frame.stem}.png", write_label_map(frame.labels())
    meta = {"videos": {video.name: {"objects": objects}}}
    yield "meta.json", json.dumps(meta, indent=1).encode()


def name_objects(video: AnnotatedVideo, folder: Path) -> AnnotatedVideo:
    """Return a video of label maps with the names that `meta.json` has for its objects, if any.

    Raises:
        MaskError: there is a `meta.json` above the folder of label maps that is none.
    """
    path = folder.parent.parent / "meta.json"
    if folder.parent.name != "Annotations" or not path.is_file():
        return video
    try:
        told = json.loads(path.read_bytes())["videos"][folder.name]["objects"]
        names = {int(number): str(each["category"]) for number, each in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MaskError(f"{path.name} is none of YouTube-VOS: {name_fault(error)}") from error
    return replace(
        video, labels={**video.labels, **{key: names[key] for key in video.labels if key in names}}
    )
