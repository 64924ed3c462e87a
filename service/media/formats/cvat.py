"""CVAT for video 1.1: `annotations.xml`.

CVAT keeps no tracks of masks: of one it takes the first mask alone. So each mask is a track of one
frame, as CVAT itself writes masks, and what belongs together has one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

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


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield the one file; frame numbers are those of the source."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    for tag, text in (("name", video.name), ("size", str(video.count)), ("mode", "interpolation")):
        SubElement(task, tag).text = text
    SubElement(task, "start_frame").text = "0"
    SubElement(task, "stop_frame").text = str(video.count - 1)
    labels = SubElement(task, "labels")
    for name in dict.fromkeys(video.labels.values()):
        SubElement(SubElement(labels, "label"), "name").text = name
    size = SubElement(task, "original_size")
    track_ids = count()
    height = width = 0
    for frame in video.frames:
        height, width = frame.size
        for each in frame.objects:
            if each.area:
                label = video.labels[each.object_id]
                root.append(mask_track(next(track_ids), frame.number, label, each))
    SubElement(size, "width").text = str(width)
    SubElement(size, "height").text = str(height)
    ElementTree.indent(root)
    yield "annotations.xml", ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def mask_track(track_id: int, frame: int, label: str, each: AnnotatedObject) -> Element:
    x, y, width, height = each.box
    group = str(each.object_id)
    track = Element("track", id=str(track_id), label=label, source="auto", group_id=group)
    mask = {
        "frame": str(frame),
        "keyframe": "1",
        "outside": "0",
        "occluded": "0",
        "rle": ", ".join(map(str, count_row_runs(each.mask[y : y + height, x : x + width]))),
        "left": str(x),
        "top": str(y),
        "width": str(width),
        "height": str(height),
        "z_order": "0",
    }
    SubElement(track, "mask", mask)
    return track


def count_row_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of the runs of a mask read row by row, the first one of background."""
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        changes = np.concatenate(([0], changes))
    return [int(run) for run in np.diff(changes, prepend=0, append=flat.size)]


def read(path: Path) -> AnnotatedVideo:
    """Return the video of a CVAT XML file (for video or for images); objects are masks of it.

    A group is an object; without groups a label is one. Raise MaskError where it is no such file.
    """
    try:
        root = ElementTree.parse(path).getroot()
        name = root.findtext("meta//name") or path.stem
        size = read_size(root)
        found: dict[int, list[tuple[str, int, NDArray[np.bool_]]]] = {}
        names: dict[int, str] = {}
        for number, image, label, group, mask in yield_mask_elements(root):
            found.setdefault(number, []).append((image, group, read_mask(mask, size)))
            names[group] = label
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise MaskError(
            f"{path.name} is no XML of CVAT that is read here: {name_fault(error)}"
        ) from error
    if any(not 1 <= object_id <= 254 for object_id in names):
        raise MaskError(f"{path.name} has groups beyond 1 to 254: give its objects smaller ones")
    frames = [
        AnnotatedFrame(
            number,
            masks[0][0],
            size,
            tuple(AnnotatedObject(group, mask) for _, group, mask in masks),
            number / USUAL_FPS,
        )
        for number, masks in sorted(found.items())
    ]
    count_ = int(root.findtext("meta//size") or 0) or max(found, default=-1) + 1
    return AnnotatedVideo(name, dict(sorted(names.items())), frames, count_)


def read_size(root: Element) -> tuple[int, int]:
    """Return (H, W), which a file tells once for video and with every image."""
    original = root.find("meta//original_size")
    if original is not None:
        return int(original.findtext("height") or 0), int(original.findtext("width") or 0)
    image = root.find("image")
    if image is None:
        raise MaskError("it tells no size")
    return int(image.attrib["height"]), int(image.attrib["width"])


def yield_mask_elements(root: Element) -> Iterator[tuple[int, str, str, int, Element]]:
    """Yield number, image, label, object and element of each mask that is to be seen."""
    by_label: dict[str, int] = {}
    for parent in root:
        for mask in parent.findall("mask"):
            if mask.get("outside") == "1":  # where a track ends, CVAT writes its last mask again
                continue
            label = parent.get("label") or mask.attrib["label"]
            group = int(parent.get("group_id") or mask.get("group_id") or 0)
            number = int(mask.get("frame") or parent.attrib["id"])
            own = by_label.setdefault(label, len(by_label) + 1)
            yield number, parent.get("name") or f"{number:05d}.jpg", label, group or own, mask


def read_mask(mask: Element, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return bool (H, W): the mask of an element; raise ValueError where it does not fit."""
    left, top, width, height = (int(mask.attrib[key]) for key in ("left", "top", "width", "height"))
    runs = np.array([int(run) for run in mask.attrib["rle"].split(",")])
    if runs.min(initial=0) < 0 or int(runs.sum()) != width * height:
        raise ValueError("a mask's runs do not fill its box")
    whole = np.zeros(size, np.bool_)
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError("a mask lies outside of the frame")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    whole[top : top + height, left : left + width] = inside
    return whole
