"""MOTS: `instances_txt/NAME.txt`, a line for each object in each frame.

`frame id class height width rle`, with ids of class * 1000 + object, all of class 1, and COCO's
run lengths. Its tools refuse masks that overlap: what two objects share is the lower id's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from model.core.encoding import decode_rle, encode_rle
from model.core.masks import MaskError
from service.media.formats.annotated import (
    USUAL_FPS,
    AnnotatedFrame,
    AnnotatedObject,
    AnnotatedVideo,
    File,
)

CLASS = 1
IDS_OF_A_CLASS = 1000


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield the one file of the video; its frame numbers are those of the source."""
    lines = []
    for frame in video.frames:
        height, width = frame.size
        for each in frame.disjoint():
            track = CLASS * IDS_OF_A_CLASS + each.object_id
            rle = encode_rle(each.mask)["counts"]
            lines.append(f"{frame.number} {track} {CLASS} {height} {width} {rle}\n")
    yield f"instances_txt/{video.name}.txt", "".join(lines).encode()


def read(path: Path) -> AnnotatedVideo:
    """Return the video of a file; an object is what is left of its id beyond the class.

    Raises:
        MaskError: a line is none of MOTS; the message tells which.
    """
    found: dict[int, list[AnnotatedObject]] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for place, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            frame, track, _, height, width = (int(word) for word in line.split()[:5])
            rle = {"size": [height, width], "counts": line.split()[5]}
        except (ValueError, IndexError) as error:
            raise MaskError(f"line {place} of {path.name} is none of MOTS") from error
        object_id = track % IDS_OF_A_CLASS
        if not 1 <= object_id <= 254:  # 10 is the class of what is to be ignored
            continue
        found.setdefault(frame, []).append(AnnotatedObject(object_id, decode_rle(rle)))
        sizes[frame] = (height, width)
    frames = [
        AnnotatedFrame(number, f"{number:06d}.jpg", sizes[number], tuple(masks), number / USUAL_FPS)
        for number, masks in sorted(found.items())
    ]
    ids = sorted({each.object_id for masks in found.values() for each in masks})
    labels = {object_id: f"object {object_id}" for object_id in ids}
    return AnnotatedVideo(path.stem, labels, frames, max(found, default=-1) + 1)
