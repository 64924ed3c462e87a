"""All regions of a host, on a real Triton's list: what is given up is never read again."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from model.core.memory import Memory
from service.engines.triton.client import triton_client
from service.engines.triton.layout import choose_shape, lay_out
from service.engines.triton.region import Region, RegionHeader, make_header
from service.engines.triton.regions import SHARED_MEMORY, Regions
from service.local.triton import LocalTriton
from tests.support.scenes import SIZE
from tests.support.toy_model import SPEC
from tests.support.tritons import regions as files

pytestmark = pytest.mark.anyio

LAYOUT = lay_out(SPEC, choose_shape(SPEC, SIZE, slots=3, objects=1, frames=2))
HEADER = make_header(
    Memory.start(0, [1], capacity=3), [1], LAYOUT, version=1, weights_sha256=SPEC.weights_sha256
)


@pytest.fixture
async def regions(triton: LocalTriton, prefix: str) -> AsyncIterator[Regions]:
    async with triton_client(
        triton.url, "toy", start_deadline_s=30.0, clip_deadline_s=60, in_flight=1, waiting=1
    ) as client:
        yield Regions(client, limit_bytes=2**20, idle_s=60.0, prefix=prefix)


@pytest.fixture
def other_name(prefix: str) -> Iterator[Path]:
    """A second name for a region's memory, by which it is seen after its file is removed."""
    path = SHARED_MEMORY / f"other-{prefix}"
    yield path
    path.unlink(missing_ok=True)


async def settled(regions: Regions) -> Region:
    """A region that holds a bank, in our hands."""
    region = await regions.create("a", LAYOUT.nbytes)
    region.settle(HEADER, owner=b"process1")
    assert region.header() == HEADER
    return region


def header_at(path: Path) -> RegionHeader | None:
    """What a region's file says of it to a process that opens it now."""
    return RegionHeader.read(path.read_bytes())


async def test_a_region_that_is_given_up_is_dirty_before_it_is_removed(
    regions: Regions, prefix: str
) -> None:
    region = await settled(regions)
    regions.schedule_removal(region)
    assert header_at(region.path) is None
    assert list(regions.holding("a")) == []
    await regions.remove_scheduled()
    assert files(prefix) == []


async def test_a_region_that_is_dropped_is_dirty_for_whoever_still_has_it(
    regions: Regions, prefix: str, other_name: Path
) -> None:
    region = await settled(regions)
    os.link(region.path, other_name)
    await regions.drop(region)
    assert files(prefix) == []
    assert header_at(other_name) is None


async def test_regions_of_other_weights_are_swept(regions: Regions, prefix: str) -> None:
    (await settled(regions)).close()
    await regions.sweep(weights_sha256=["1" * 64, SPEC.weights_sha256])
    assert len(files(prefix)) == 1
    await regions.sweep(weights_sha256=["0" * 64])
    assert files(prefix) == []


async def test_regions_of_another_user_take_no_place(
    regions: Regions, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = SHARED_MEMORY / f"{prefix}-foreign"
    with foreign.open("wb") as sparse:
        sparse.truncate(2**30)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    region = await regions.create("a", LAYOUT.nbytes)
    await regions.sweep(weights_sha256=["1" * 64, SPEC.weights_sha256])
    assert foreign.stat().st_size == 2**30
    foreign.unlink()
    monkeypatch.undo()
    await regions.drop(region)
