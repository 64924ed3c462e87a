"""The index of a video is walked before FFmpeg makes memory of what it claims."""

from __future__ import annotations

import struct

import pytest

from service.errors import BadVideo
from service.media.video_index import check_index, format_of, walk
from tests.support import scene
from tests.support.repeated_video import box


def index(*tables: bytes, tracks: int = 1) -> bytes:
    track = box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", *tables))))
    return box(b"ftyp", b"isom") + box(b"moov", *[track] * tracks)


def sizes(samples: int, *, of: int = 0) -> bytes:
    """A table that claims so many samples, all of one size if it is given."""
    return box(b"stsz", struct.pack(">III", 0, of, samples))


def run_of_fragments(samples: int) -> bytes:
    return box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, samples))))


@pytest.mark.parametrize("kind", ["mp4", "mov"])
def test_the_index_of_a_usual_video_is_accepted(kind: str) -> None:
    check_index(scene.video(range(3), kind=kind))


@pytest.mark.parametrize(
    "data",
    [
        index(sizes(200_001)),
        index(sizes(80_000_000, of=556)),
        index(sizes(100_000), tracks=3),
        index(box(b"stz2", struct.pack(">III", 0, 8, 200_001))),
        index() + run_of_fragments(150_000) + run_of_fragments(150_000),
        index() + box(b"moov", box(b"udta", box(b"trak", sizes(200_001)))),
        index() + box(b"moov", box(b"meta", bytes(4), box(b"hdlr"), box(b"trak", sizes(200_001)))),
        index(box(b"edts", box(b"elst", struct.pack(">II", 0, 1_001)))),
        index(tracks=21),
    ],
)
def test_an_index_that_claims_too_much_is_refused(data: bytes) -> None:
    with pytest.raises(BadVideo, match="the video's index claims"):
        check_index(data)


@pytest.mark.parametrize(
    "data", [index(sizes(200_000)), index(sizes(3_000_000, of=4)), index(tracks=20)]
)
def test_as_much_as_is_allowed_is_accepted(data: bytes) -> None:
    check_index(data)


def test_a_compressed_index_is_refused() -> None:
    with pytest.raises(BadVideo, match="compressed"):
        check_index(box(b"moov", box(b"cmov", bytes(100))))


def test_a_file_without_an_index_is_said_to_be_cut_off() -> None:
    whole = scene.video(range(3))
    with pytest.raises(BadVideo, match="no index"):
        check_index(whole[: whole.index(b"moov") - 4])


def test_boxes_without_end_are_refused() -> None:
    with pytest.raises(BadVideo, match="more than 100000 boxes"):
        check_index(box(b"free") * 100_001)


@pytest.mark.parametrize("size", [1, 7])
def test_a_box_that_is_smaller_than_its_head_ends_the_walk(size: int) -> None:
    data = box(b"ftyp") + struct.pack(">I4sQ", size, b"moov", 3) + bytes(100)
    assert [each.kind for each in walk(data)] == [b"ftyp"]


def test_a_large_box_is_followed() -> None:
    content = box(b"trak")
    data = struct.pack(">I4sQ", 1, b"moov", 16 + len(content)) + content + box(b"free")
    assert [each.kind for each in walk(data)] == [b"moov", b"free", b"trak"]


@pytest.mark.parametrize(("kind", "name"), [("mp4", "mov"), ("mov", "mov"), ("webm", "matroska")])
def test_a_format_is_known_by_its_beginning(kind: str, name: str) -> None:
    assert format_of(scene.video(range(1), kind=kind)) == name


def test_other_files_have_no_format() -> None:
    assert format_of(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.mp4\n") is None
