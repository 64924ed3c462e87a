"""YOLO segmentation: `labels/STEM.txt`, a line of outline points for each object, and `data.yaml`.

Points are shares of the frame, at the centers of pixels, so that filling them gives the mask back.
A line is one outline: parts and holes are joined to it by seams without width, as Ultralytics'
own converter of COCO does. Where a mask is filled from it, a seam is one pixel wide.

The files tell no size of a frame. It is that of the picture beside them, or what our own
`data.yaml` says of all frames: `size: [width, height]`.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.core.encoding import IntricateMask, find_outlines
from model.core.frame_files import sort_naturally
from model.core.masks import MaskError
from service.media.formats.annotated import (
    USUAL_FPS,
    AnnotatedFrame,
    AnnotatedObject,
    AnnotatedVideo,
    File,
)

MAX_OUTLINES = 1000  # of the parts and holes of one mask: each is hung on to all before it
MAX_PAIRS = 1 << 26  # of points that are measured for one mask
PAIRS_AT_ONCE = 1 << 22
ORIENTATION: Final = 0x0112  # of EXIF; from 5 on a picture lies on its side
NAMES: Final = re.compile(r"""^ *(?:(\d+):|-) *(?:"(.*)"|'(.*)'|([^#\n]*?)) *(?:#.*)?$""")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")  # what XML and paths do not take
SIZE: Final = re.compile(r"^size: *\[ *(\d+) *, *(\d+) *\]", re.MULTILINE)


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield the lines of every frame, and the names of the classes: an object is a class."""
    classes = {object_id: place for place, object_id in enumerate(video.labels)}
    sizes = set()
    for frame in video.frames:
        height, width = frame.size
        sizes.add(frame.size)
        lines = []
        for each in frame.disjoint():
            try:
                points = (join_contours(each.mask) + 0.5) / (width, height)
            except IntricateMask as error:
                raise IntricateMask(
                    f"the mask of object {each.object_id} in {frame.image!r} is no outline: {error}"
                ) from error
            numbers = " ".join(f"{number:.6f}" for number in points.ravel())
            lines.append(f"{classes[each.object_id]} {numbers}\n")
        yield f"labels/{frame.stem}.txt", "".join(lines).encode()
    names = "".join(
        f"  {place}: {json.dumps(name)}\n" for place, name in enumerate(video.labels.values())
    )
    size = f"size: [{width}, {height}]\n" if len(sizes) == 1 else ""
    yield "data.yaml", f"path: .\ntrain: images\nval: images\n{size}names:\n{names}".encode()


def join_contours(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the points (P, 2) of one outline around all parts of a mask and its holes.

    IntricateMask for more than MAX_OUTLINES of them, or too many corners.
    """
    outlines = find_outlines(mask, most=MAX_OUTLINES, holes=True)
    parts = [outline.astype(np.int64) for outline in outlines]
    pairs = min(PAIRS_AT_ONCE, MAX_PAIRS // len(parts))
    # The largest first: each of the others is hung on where it is nearest.
    return reduce(partial(hang_on, pairs=pairs), sorted(parts, key=len, reverse=True))


def hang_on(whole: NDArray[np.int64], part: NDArray[np.int64], *, pairs: int) -> NDArray[np.int64]:
    """Return an outline that goes along `whole`, over to `part`, around it, and back."""
    here, there = nearest_points(whole, part, pairs=pairs)
    around = np.roll(part, -there, axis=0)
    return np.concatenate([whole[: here + 1], around, around[:1], whole[here:]])


def nearest_points(
    whole: NDArray[np.int64], part: NDArray[np.int64], *, pairs: int
) -> tuple[int, int]:
    """Return the places of two points that are near each other, one of each outline.

    About so many pairs are compared: of a longer part not every point.
    """
    step = max(1, len(whole) * len(part) // pairs)
    thinned = part[::step]
    distances = ((whole[:, None] - thinned[None]) ** 2).sum(axis=2)
    here, there = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(here), int(there) * step


class LabelLine(NamedTuple):
    """A line of a file: an object's class, and its outline (P, 2) in shares of the frame."""

    kind: int
    points: NDArray[np.float64]


def is_outlines(path: Path) -> bool:
    """Return whether the first line of a text file may be one of YOLO: numbers alone."""
    with path.open(errors="replace") as file:
        words = next((line.split() for line in file if line.strip()), [])
    return len(words) > 4 and all(re.fullmatch(r"[\d.eE+-]+", word) for word in words)


def read(folder: Path) -> AnnotatedVideo:
    """Return the masks of a folder that holds `labels`, or of such a folder; a class is an object.

    Frames are in the order of their names, and decoded when they are gone through.

    Raises:
        MaskError: a line is no outline, the size of a frame is not to be found, or a frame has two
            objects of one class: which is which in another one is not told.
    """
    labels = folder / "labels" if (folder / "labels").is_dir() else folder
    facts = labels.parent / "data.yaml"
    text = facts.read_text(errors="replace") if facts.is_file() else ""
    names = read_names(text)
    files = [labels / name for name in sort_naturally(path.name for path in labels.glob("*.txt"))]
    found = [read_outlines(path) for path in files]
    for path, outlines in zip(files, found, strict=True):
        if len({each.kind for each in outlines}) < len(outlines) > 1 < len(files):
            raise MaskError(
                f"{path.name} has two objects of one class, and YOLO does not tell which is which "
                "in another frame: give each object a class of its own"
            )
    pictures = [find_picture(path) for path in files]
    images = [
        each.name if each else f"{path.stem}.jpg"
        for each, path in zip(pictures, files, strict=True)
    ]
    told = SIZE.search(text)
    sizes = [
        measure(picture) if picture else (int(told[2]), int(told[1])) if told else None
        for picture in pictures
    ]
    if None in sizes:
        raise MaskError(
            f"the size of the frame of {files[sizes.index(None)].name} is not told: put its "
            "picture beside it, or into a folder 'images' beside 'labels'"
        )
    frames = _Labels(images, found, [size for size in sizes if size])
    kinds = sorted({each.kind for outlines in found for each in outlines})
    objects = {kind + 1: names.get(kind) or f"object {kind + 1}" for kind in kinds}
    return AnnotatedVideo(labels.parent.name, objects, frames, len(files))


@dataclass(frozen=True)
class _Labels(Iterable[AnnotatedFrame]):
    images: Sequence[str]
    outlines: Sequence[Sequence[LabelLine]]
    sizes: Sequence[tuple[int, int]]

    def __iter__(self) -> Iterator[AnnotatedFrame]:
        rows = zip(self.images, self.outlines, self.sizes, strict=True)
        for number, (image, outlines, size) in enumerate(rows):
            yield fill_frame(outlines, size, number=number, image=image)


def fill_frame(
    outlines: Sequence[LabelLine], size: tuple[int, int], *, number: int = 0, image: str = ""
) -> AnnotatedFrame:
    """Return a frame of this size (H, W) with its objects: of a class each, else line by line."""
    single = len({each.kind for each in outlines}) == len(outlines)
    objects = []
    for place, (kind, points) in enumerate(outlines):
        corners = np.rint(points * size[::-1] - 0.5).clip(0, (size[1] - 1, size[0] - 1))
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [corners.astype(np.int32)], color=1)
        object_id = (kind if single else place) + 1
        objects.append(AnnotatedObject(object_id, mask.view(np.bool_)))
    return AnnotatedFrame(number, image, size, tuple(objects), number / USUAL_FPS)


def read_outlines(path: Path) -> list[LabelLine]:
    """Return the lines of a file; raise MaskError where one is none of YOLO's, and say which."""
    outlines = []
    for place, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            kind, points = int(words[0]), np.array(words[1:], np.float64)
        except ValueError as error:
            raise MaskError(f"line {place} of {path.name} is no outline of YOLO") from error
        why = ""
        if points.size == 4:
            why = "is a box: masks need the outlines of YOLO's segmentation"
        elif points.size < 6 or points.size % 2:
            why = f"has {points.size} numbers, which are no points x, y of an outline"
        elif not ((points >= 0) & (points <= 1)).all():
            why = "has points outside of the frame: they are shares of it, 0 to 1"
        elif not 0 <= kind < 254:
            why = f"is of class {kind}: objects are of 0 to 253"
        if why:
            raise MaskError(f"line {place} of {path.name} {why}")
        outlines.append(LabelLine(kind, points.reshape(-1, 2)))
    if len(outlines) > 254:
        raise MaskError(f"{path.name} has {len(outlines)} objects; at most 254 are read")
    return outlines


def read_names(text: str) -> dict[int, str]:
    """Return the names of the classes in a `data.yaml`; none where they stand in another way."""
    _, _, after = f"\n{text}".partition("\nnames:")
    first, _, rest = after.partition("\n")
    listed = re.findall(r"""[\[,] *["']?([^\],"']+)""", first)
    names = dict(enumerate(each.strip() for each in listed))
    for line in rest.splitlines():
        found = NAMES.match(line)
        if found is None:
            break
        number, quoted, *others = found.groups()
        try:
            name = json.loads(f'"{quoted}"') if quoted else "".join(filter(None, others))
        except ValueError:
            name = quoted
        names[len(names) if number is None else int(number)] = CONTROL.sub(" ", name)
    return names


def find_picture(path: Path) -> Path | None:
    """Return the picture of a file of outlines, in its folder or that of `images`."""
    *before, after = str(path.parent).rpartition("labels")
    folders = (path.parent, Path(f"{before[0]}images{after}")) if before[1] else (path.parent,)
    for folder in folders:
        for file in sorted(folder.glob(f"{glob.escape(path.stem)}.*")):
            if file.suffix.lower() in Image.registered_extensions():
                return file
    return None


def measure(picture: Path) -> tuple[int, int]:
    """Return (H, W) of a picture as it is shown; MaskError where it is none."""
    try:
        with Image.open(picture) as image:
            width, height = image.size
            lies = image.getexif().get(ORIENTATION, 1) >= 5
    except (OSError, SyntaxError, ValueError) as error:
        raise MaskError(f"{picture.name} is no picture: {error}") from error
    return (width, height) if lies else (height, width)
