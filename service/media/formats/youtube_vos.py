"""YouTube-VOS: `Annotations/NAME/STEM.png` in DAVIS's palette, and `meta.json` of the objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from model.core.palette import write_label_map
from service.media.formats.annotated import AnnotatedVideo, File


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
