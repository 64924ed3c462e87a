"""Regions of shared memory: their header, their lock and their layout."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.core.memory import Memory
from service.engines.triton.layout import HEADER_BYTES, Layout, Shape, choose_shape, lay_out
from service.engines.triton.region import Region, RegionHeader, make_header
from tests.support.scenes import SIZE
from tests.support.toy_model import SPEC
from tests.support.tritons import open_files

LAYOUT = lay_out(SPEC, choose_shape(SPEC, SIZE, slots=9, objects=1, frames=2))
MEMORY = Memory.start(0, [1], capacity=9).remember(2, [1])
OWNER = b"process1"
HOLDING = (
    "import sys, time\nfrom pathlib import Path\nfrom service.engines.triton.region import Region\n"
)
HOLDING += "held = Region.open(Path(sys.argv[1]))\nprint(held is not None, flush=True)\n"
HOLDING += "time.sleep(60)\n"


def header(version: int = 3) -> RegionHeader:
    return make_header(MEMORY, [1], LAYOUT, version=version, weights_sha256=SPEC.weights_sha256)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "region"


def settled(path: Path) -> None:
    """A region that holds a bank, and is free."""
    region = Region.create(path, LAYOUT.nbytes)
    region.settle(header(), owner=OWNER)
    region.close()


def test_a_new_region_is_dirty_and_takes_its_memory_at_once(path: Path) -> None:
    region = Region.create(path, LAYOUT.nbytes)
    assert region.header() is None
    assert path.stat().st_blocks * 512 >= LAYOUT.nbytes
    region.close()


def test_what_was_settled_is_found_again(path: Path) -> None:
    settled(path)
    region = Region.open(path)
    assert region is not None
    assert region.header() == header()
    assert region.owner == OWNER
    region.close()


@given(
    version=st.integers(0, 2**40),
    nbytes=st.integers(0, 2**50),
    weights=st.binary(min_size=32, max_size=32),
    ages=st.lists(st.integers(-1, 15), min_size=16, max_size=16),
)
def test_a_header_survives_the_round_trip(
    version: int, nbytes: int, weights: bytes, ages: list[int]
) -> None:
    made = RegionHeader(version, nbytes, weights, weights[::-1], tuple(ages))
    assert RegionHeader.read(made.pack(dirty=False)) == made
    assert RegionHeader.read(made.pack(dirty=True)) is None


def test_the_header_tells_slots_and_ages() -> None:
    assert header().ages[:3] == (1, 0, -1)


def test_a_region_is_dirty_from_the_first_write_until_it_is_settled(path: Path) -> None:
    settled(path)
    region = Region.open(path)
    assert region is not None
    region.mark_dirty()
    assert region.header() is None
    region.settle(header(version=4), owner=OWNER)
    assert region.header() == header(version=4)
    region.close()


def test_a_closed_region_is_not_open_any_more_whoever_still_knows_it(path: Path) -> None:
    settled(path)
    region = Region.open(path)
    assert region is not None
    assert open_files().count(str(path)) == 2  # its own descriptor, and that of its mapping
    region.close()
    assert str(path) not in open_files()


def test_one_holder_at_a_time(path: Path) -> None:
    settled(path)
    first = Region.open(path)
    assert first is not None
    assert Region.open(path) is None
    views = first.array(LAYOUT.locations["masks"])
    first.close()
    second = Region.open(path)  # although the first one's mapping is still there
    assert second is not None
    second.close()
    assert views.shape == (2, 1, *SIZE)


def test_the_lock_of_a_killed_process_is_free(path: Path) -> None:
    settled(path)
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert Region.open(path) is None
        process.kill()
        process.wait()
        region = Region.open(path)
        assert region is not None
        region.close()


@pytest.mark.parametrize("content", [b"", b"short", bytes(100), b"TAMVTBNK" + bytes(5000)])
def test_what_is_no_region_holds_nothing(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    region = Region.open(path)
    if region is not None:
        assert region.header() is None
        region.mark_dirty()
        region.close()


def test_a_region_of_another_length_than_it_says_holds_nothing(path: Path) -> None:
    settled(path)
    path.write_bytes(path.read_bytes()[:-1])
    region = Region.open(path)
    assert region is not None
    assert region.header() is None
    region.close()


def test_a_missing_or_removed_region_cannot_be_opened(path: Path) -> None:
    assert Region.open(path) is None
    settled(path)
    region = Region.open(path)
    assert region is not None
    region.unlink()
    region.unlink()
    region.close()
    assert Region.open(path) is None


def test_a_region_is_never_made_twice(path: Path) -> None:
    settled(path)
    with pytest.raises(FileExistsError):
        Region.create(path, 4096)


@pytest.mark.parametrize(
    "change",
    [
        {"memory": MEMORY.remember(3, [1])},
        {"object_ids": [2]},
        {"version": 4},
        {"layout": replace(LAYOUT, shape=replace(LAYOUT.shape, size=SIZE[::-1]))},
        {"weights_sha256": "0" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_makes_another_bank_makes_another_header(change: dict[str, object]) -> None:
    told: dict[str, object] = {
        "memory": MEMORY,
        "object_ids": [1],
        "layout": LAYOUT,
        "version": 3,
        "weights_sha256": SPEC.weights_sha256,
    }
    assert make_header(**{**told, **change}) != header()  # type: ignore[arg-type]


def test_the_places_of_a_layout_do_not_overlap() -> None:
    locations = sorted(LAYOUT.locations.values(), key=lambda location: location.offset)
    assert locations[0].offset == HEADER_BYTES
    for location, following in pairwise(locations):
        assert location.offset + location.nbytes <= following.offset
        assert following.offset % 64 == 0
    assert locations[-1].offset + locations[-1].nbytes <= LAYOUT.nbytes


def test_slots_are_blocks_of_their_tensor(path: Path) -> None:
    region = Region.create(path, LAYOUT.nbytes)
    region.array(LAYOUT.slots("value_s32", 3, 2))[:] = 7
    whole = region.array(LAYOUT.locations["value_s32"])
    assert np.unique(np.nonzero(whole)[0]).tolist() == [3, 4]
    region.close()


@pytest.mark.parametrize(
    ("slots", "objects", "frames", "expected"),
    [
        (3, 1, 1, Shape(SIZE, slots=9, objects=1, frames=2)),
        (9, 2, 2, Shape(SIZE, slots=9, objects=2, frames=2)),
        (16, 3, 4, Shape(SIZE, slots=16, objects=3, frames=4)),
    ],
)
def test_sessions_are_served_in_buckets(
    slots: int, objects: int, frames: int, expected: Shape
) -> None:
    assert choose_shape(SPEC, SIZE, slots=slots, objects=objects, frames=frames) == expected


def test_a_layout_is_a_value() -> None:
    assert isinstance(LAYOUT, Layout)
    assert lay_out(SPEC, LAYOUT.shape) == LAYOUT


def test_a_region_of_another_user_is_not_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert Region.open(path) is None
    monkeypatch.undo()
    region = Region.open(path)
    assert region is not None
    region.close()
