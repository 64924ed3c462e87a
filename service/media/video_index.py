"""What the boxes of an MP4 or MOV, and the header of a WebM, tell before the file is opened.

FFmpeg makes some 24 bytes of each sample that an index claims, and an index of a kilobyte can
claim a hundred million. So the index is walked first: each box once, with nothing built of it.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from service.errors import BadVideo

MAX_SAMPLES: Final = 200_000  # 55 minutes at 60 frames a second
MAX_EDITS: Final = 1_000
MAX_TRACKS: Final = 20
MAX_BOXES: Final = 100_000
# Samples of uncompressed sound have one small size, and FFmpeg takes 160 or more at once.
MAX_SOUND_BYTES: Final = 64

EBML: Final = b"\x1a\x45\xdf\xa3"
SEGMENT: Final = b"\x18\x53\x80\x67"
# Boxes that a QuickTime or MP4 file may begin with.
MOV_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
# FFmpeg looks for boxes in these, wherever they are.
CONTAINERS: Final = frozenset(
    b"moov trak mdia minf stbl edts dinf udta mvex moof traf hoov wave meta ilst tref avss".split()
)
# The place of a box's number of samples or edits in it.
COUNTS: Final = {b"stsz": 8, b"stz2": 8, b"trun": 4, b"elst": 4}


class IndexBox(NamedTuple):
    """A box of an MP4: what it is, and where its content is."""

    kind: bytes
    start: int
    end: int


def format_of(head: bytes) -> str | None:
    """Return FFmpeg's name of the format that a file with this beginning has, or None."""
    if head.startswith(EBML):
        return "matroska"
    return "mov" if head[4:8] in MOV_BOXES else None


def check_index(data: bytes | mmap.mmap) -> None:
    """Raise BadVideo if the index of an MP4 or MOV is missing, packed, or claims too much."""
    samples = edits = tracks = 0
    indexed = False
    for box in walk(data):
        tracks += box.kind == b"trak"
        indexed |= box.kind in (b"moov", b"hoov", b"moof")
        if box.kind == b"cmov":
            raise BadVideo("the video's index is compressed; save the file anew")
        if box.kind in COUNTS:
            count = _number(data, box.start + COUNTS[box.kind])
            if box.kind == b"elst":
                edits += count
            elif box.kind != b"stsz" or not 0 < _number(data, box.start + 4) <= MAX_SOUND_BYTES:
                samples += count
        if samples > MAX_SAMPLES or edits > MAX_EDITS or tracks > MAX_TRACKS:
            raise BadVideo(
                f"the video's index claims {samples} samples, {edits} edits and {tracks} tracks; "
                f"at most {MAX_SAMPLES}, {MAX_EDITS} and {MAX_TRACKS} are read: send it in parts"
            )
    if not indexed:
        raise BadVideo("the video has no index (moov): the file is cut off, or was not finished")


def walk(data: bytes | mmap.mmap) -> Iterator[IndexBox]:
    """Yield every box, those in it later; raise BadVideo for too many."""
    levels = [(0, len(data))]
    seen = 0
    while levels:
        start, end = levels.pop()
        while start + 8 <= end:
            size, kind, head = _number(data, start), data[start + 4 : start + 8], 8
            if size == 1:
                size, head = _number(data, start + 8, size=8), 16
            after = min(start + size, end) if size else end
            if after < start + head:
                break
            yield IndexBox(kind, start + head, after)
            seen += 1
            if seen > MAX_BOXES:
                raise BadVideo(f"the video's index has more than {MAX_BOXES} boxes")
            if kind == b"meta":  # its own fields differ, and end where this box begins
                levels.append(
                    (max(data.find(b"hdlr", start + head, after) - 4, start + head), after)
                )
            elif kind in CONTAINERS:
                levels.append((start + head, after))
            start = after


def is_cut_off(file: BinaryIO) -> bool:
    """Return whether an MP4, MOV or WebM says that it is longer than it is."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(64)
    kind = format_of(head)
    if kind == "matroska":
        # The header and the segment: four bytes of a name, then a length, as UTF-8 has them.
        header, start = _matroska_length(head, len(EBML))
        start += header
        file.seek(start)
        head = file.read(12)
        if not head.startswith(SEGMENT):
            return False
        size, place = _matroska_length(head, len(SEGMENT))
        return size > 0 and start + place + size > length
    start = 0
    while kind == "mov" and start + 16 <= length:
        file.seek(start)
        head = file.read(16)
        size = _number(head, 0)
        if size == 1:
            size = _number(head, 8, size=8)
        if head[4:8] == b"mdat" and start + size > length:
            return True
        if size < 8:
            return False
        start += size
    return False


def _number(data: bytes | mmap.mmap, place: int, *, size: int = 4) -> int:
    return int.from_bytes(data[place : place + size], "big")


def _matroska_length(head: bytes, place: int) -> tuple[int, int]:
    """Return the length that stands there, 0 if it is not known, and the place after it."""
    first = head[place] if place < len(head) else 0
    size = 9 - first.bit_length()  # bytes
    if size > 8:
        return 0, place
    mask = (1 << 7 * size) - 1
    length = _number(head, place, size=size) & mask
    return (0 if length == mask else length), place + size
