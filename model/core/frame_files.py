"""Which files of a folder are frames, in which order, and their bytes as the service reads them.

One rule for the commands, for training and for evaluation; the page has the same one in JavaScript
(`service/web/frame_files.js`), and both are tested on one list.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from model.core.image_headers import Undecodable

SENT_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"})
OTHER_SUFFIXES = frozenset(
    {".bmp", ".dib", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pnm", ".pbm"}
)
FRAME_SUFFIXES = SENT_SUFFIXES | OTHER_SUFFIXES
NAMED = 3  # files that a message names, of each kind that is left out
# A sign stands at the beginning, or after what is neither a letter, a digit nor another sign:
# in "img-1" and "2024-01-02" it is a hyphen.
_NUMBER = re.compile(r"((?:(?<![^\W_])(?<![-+.)]))[-+]|)([0-9]+)((?:\.[0-9]+)*)")
_NOTHING = (1, Decimal(0), "")

Key = tuple[tuple[int, Decimal, str], ...]


class FolderError(ValueError):
    """A folder that cannot be read as frames; the message says why."""


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """The frames of a folder in natural order, and what else lies there."""

    folder: Path
    frames: tuple[Path, ...]
    hidden: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def left_out(self) -> str:
        """Return what is no frame, in words; empty where there is nothing else."""
        kinds = (
            ("hidden file", self.hidden),
            ("folder", self.folders),
            ("other file", self.others),
        )
        return ", ".join(_counted(kind, names) for kind, names in kinds if names)

    def check(self) -> None:
        """Raise FolderError for no frame at all, and for two frames of one stem."""
        if not self.frames:
            beside = f" ({self.left_out})" if self.left_out else ""
            raise FolderError(f"the folder {str(self.folder)!r} holds no image{beside}")
        stem, times = Counter(frame.stem for frame in self.frames).most_common(1)[0]
        if times > 1:
            raise FolderError(
                f"{times} images in {str(self.folder)!r} are named {stem!r}: one mask for all"
            )


def list_frames(folder: Path, *, mask: Path | None = None) -> FrameFiles:
    """Return the frames of a folder, found by their suffix: no hidden file, and not the `mask`.

    A mask with the suffix of an image may lie beside its frames. Raise OSError where the folder
    cannot be read.
    """
    found: dict[str, Path] = {}
    hidden, folders, others = [], [], []
    mask_status = mask.stat() if mask is not None and mask.exists() else None
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                hidden.append(entry.name)
            elif entry.is_dir():
                folders.append(entry.name)
            elif (
                Path(entry.name).suffix.lower() not in FRAME_SUFFIXES
                or not entry.is_file()
                or (mask_status and os.path.samestat(entry.stat(), mask_status))
            ):
                others.append(entry.name)
            else:
                found[entry.name] = folder / entry.name
    frames = tuple(found[name] for name in sort_naturally(found))
    return FrameFiles(
        folder, frames, *(tuple(sort_naturally(names)) for names in (hidden, folders, others))
    )


def sort_naturally(names: Iterable[str]) -> list[str]:
    """Return names with their numbers in order of size: frame2 before frame10, -1 before 1.

    A point between digits is a decimal point, unless one name shows that it counts: 1.9 and 1.10,
    or more than one point as in a date.
    """
    names = list(names)
    points = [number[3][1:] for name in names for number in _NUMBER.finditer(name)]
    fractions = [digits for digits in points if digits and "." not in digits]
    counted = any(len(digits) > 1 and digits.endswith("0") for digits in fractions)
    decimal = not counted or len({len(digits) for digits in fractions}) == 1
    return sorted(names, key=lambda name: (_key(name.lower(), decimal=decimal), name))


def read_frame_file(path: Path) -> bytes:
    """Return a frame in a kind that the service reads: JPEG, PNG and WebP as they are, else a PNG.

    Raise OSError, or Undecodable for a file of another kind that cannot be decoded or that holds
    several pictures.
    """
    data = path.read_bytes()
    if path.suffix.lower() in SENT_SUFFIXES:
        return data
    try:
        with Image.open(io.BytesIO(data)) as image:
            pictures = getattr(image, "n_frames", 1)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        pictures = 1  # of a kind that only OpenCV knows
    if pictures > 1:
        raise Undecodable(f"the file holds {pictures} pictures; one is a frame")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise Undecodable("the image cannot be decoded") from error
    if bgr is None:
        raise Undecodable("the image cannot be decoded")
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _key(name: str, *, decimal: bool) -> Key:
    parts: list[tuple[int, Decimal, str]] = []
    end = 0
    for number in _NUMBER.finditer(name):
        sign, whole, points = number.groups()
        if points.count(".") == 1 and decimal:
            whole, points = whole + points, ""
        parts.append((1, Decimal(0), name[end : number.start()]))
        parts.append((0, Decimal(sign + whole), ""))
        parts += ((0, Decimal(digits), "") for digits in points.split(".")[1:])
        end = number.end()
    return (*(part for part in parts if part != _NOTHING), (1, Decimal(0), name[end:]))


def _counted(kind: str, names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:NAMED])) + (", ..." if len(names) > NAMED else "")
    return f"{len(names)} {kind if len(names) == 1 else kind + 's'} ({shown})"
