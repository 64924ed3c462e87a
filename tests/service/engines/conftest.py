"""Engines on a real Triton with the toy model."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from service.engines.triton.engine import SharedMemory, TritonEngine, triton_engine
from service.local.triton import LocalTriton
from tests.support.tritons import regions


@pytest.fixture
def prefix() -> Iterator[str]:
    """What the names of the test's own regions begin with; none is left when it ends."""
    chosen = f"tamvt-test-{secrets.token_hex(4)}"
    yield chosen
    assert regions(chosen) == []


@pytest.fixture
async def engine(triton: LocalTriton, prefix: str) -> AsyncIterator[TritonEngine]:
    """An engine with banks in shared memory."""
    async with triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as opened:
        yield opened
