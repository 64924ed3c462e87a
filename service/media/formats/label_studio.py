"""Label Studio: `video.json`, a box for each object in each frame, and `images.json`, brushes.

Label Studio knows boxes in a video (`<VideoRectangle>`) and masks on images (`<BrushLabels>`), but
no masks in a video: so there are tasks for both. Import them as they are; the labels of your
project are to be those of the objects. Its brush is run lengths of RGBA bytes, packed in bits:
32 for how many bytes, 5 for the bits of a value less one, four times 4 for the bits of a run's
length less one; then for each run whether its value stands once, which of the four lengths, the
length less one, and the value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.core.masks import MaskError
from service.media.formats.annotated import (
    USUAL_FPS,
    AnnotatedFrame,
    AnnotatedObject,
    AnnotatedVideo,
    File,
    name_fault,
)
from service.media.formats.cvat import count_row_runs

CHANNELS: Final = 4
WORD_BITS: Final = 8
LENGTH_BITS: Final = (3, 4, 8, 16)
MAX_BYTES: Final = CHANNELS << 26


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield the tasks of the video and of its frames, with one annotation each."""
    sequences: dict[int, list[dict[str, Any]]] = {object_id: [] for object_id in video.labels}
    tasks = []
    for frame in video.frames:
        found = {each.object_id: each for each in frame.objects if each.area}
        for object_id, sequence in sequences.items():
            if object_id in found:
                sequence.append(box_keyframe(frame, found[object_id]))
            elif sequence:  # from here on it is not seen
                sequence[-1]["enabled"] = False
        regions = [brush_region(frame, each, video.labels[key]) for key, each in found.items()]
        tasks.append({"data": {"image": frame.image}, "annotations": [{"result": regions}]})
    rectangles = [
        video_rectangle(video, object_id, sequence)
        for object_id, sequence in sequences.items()
        if sequence
    ]
    film = [{"data": {"video": video.name}, "annotations": [{"result": rectangles}]}]
    yield "video.json", json.dumps(film).encode()
    yield "images.json", json.dumps(tasks).encode()


def box_keyframe(frame: AnnotatedFrame, each: AnnotatedObject) -> dict[str, Any]:
    """Return an object's box in percent of the frame; frames count from 1."""
    height, width = frame.size
    x, y, box_width, box_height = each.box
    return {
        "frame": frame.number + 1,
        "time": round(frame.time_s, 6),
        "enabled": True,
        "rotation": 0,
        "x": 100 * x / width,
        "y": 100 * y / height,
        "width": 100 * box_width / width,
        "height": 100 * box_height / height,
    }


def video_rectangle(
    video: AnnotatedVideo, object_id: int, sequence: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": f"object{object_id}",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "origin": "manual",
        "value": {
            "framesCount": video.count,
            "duration": round(video.count / video.fps, 6),
            "sequence": sequence,
            "labels": [video.labels[object_id]],
        },
    }


def brush_region(frame: AnnotatedFrame, each: AnnotatedObject, label: str) -> dict[str, Any]:
    height, width = frame.size
    return {
        "id": f"object{each.object_id}",
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "origin": "manual",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_brush(each.mask), "brushlabels": [label]},
    }


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """Return the bytes of a mask as Label Studio's brush has it, 255 where the object is."""
    bits = [f"{mask.size * CHANNELS:032b}{WORD_BITS - 1:05b}"]
    bits += [f"{length - 1:04b}" for length in LENGTH_BITS]
    for place, run in enumerate(count_row_runs(mask)):
        word = f"{255 * (place % 2):08b}"
        left = run * CHANNELS
        while left:
            kind = next((k for k, b in enumerate(LENGTH_BITS) if left <= 1 << b), 3)
            taken = min(left, 1 << LENGTH_BITS[kind])
            bits.append(f"1{kind:02b}{taken - 1:0{LENGTH_BITS[kind]}b}{word}")
            left -= taken
    text = "".join(bits)
    return list(int(text + "0" * (-len(text) % 8), 2).to_bytes((len(text) + 7) // 8, "big"))


def decode_brush(packed: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return bool (H, W): where the alpha of a brush is above 127.

    Raises:
        MaskError: the bytes are no brush of this size.
    """
    bits = f"{int.from_bytes(bytes(packed), 'big'):0{8 * len(packed)}b}"
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise MaskError("the brush ends early")
        return int(bits[at - count : at], 2)

    length, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if length != size[0] * size[1] * CHANNELS or length > MAX_BYTES:
        raise MaskError(f"the brush is of {length // CHANNELS} pixels, not {size[0] * size[1]}")
    values = np.zeros(length, np.uint8)
    done = 0
    while done < length:
        repeated = take(1)
        run = 1 + take(lengths[take(2)])
        if done + run > length:
            raise MaskError("the brush has more pixels than its image")
        if repeated:
            values[done : done + run] = take(word) & 255
        else:
            values[done : done + run] = [take(word) & 255 for _ in range(run)]
        done += run
    return np.asarray(values.reshape(*size, CHANNELS)[..., 3] > 127)


def read(path: Path, tasks: list[Any]) -> AnnotatedVideo:
    """Return the masks of an export, parsed from `path`, whose tasks are images with brushes.

    A label is an object, in the order in which they occur. Raise MaskError where there is none.
    """
    try:
        ids: dict[str, int] = {}
        frames = [read_task(task, number, ids) for number, task in enumerate(tasks)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MaskError(f"{path.name} is no export of Label Studio: {name_fault(error)}") from error
    if not ids:
        raise MaskError(f"{path.name} has no brush: boxes alone are no masks")
    labels = {object_id: label for label, object_id in ids.items()}
    return AnnotatedVideo(path.stem, labels, [each for each in frames if each], len(frames))


def read_task(task: Any, number: int, ids: dict[str, int]) -> AnnotatedFrame | None:
    results = [
        each
        for annotation in task.get("annotations") or task.get("predictions") or ()
        for each in annotation["result"]
        if "rle" in each["value"]
    ]
    if not results:
        return None
    size = (int(results[0]["original_height"]), int(results[0]["original_width"]))
    objects = []
    for each in results:
        (label, *_) = each["value"]["brushlabels"]
        object_id = ids.setdefault(str(label), len(ids) + 1)
        objects.append(AnnotatedObject(object_id, decode_brush(each["value"]["rle"], size)))
    image = str(task["data"].get("image") or next(iter(task["data"].values())))
    return AnnotatedFrame(number, image, size, tuple(objects), number / USUAL_FPS)
