"""The real parts that the service's tests share: a Redis and a Triton of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from model.export.triton.repository import write_repository
from service.local.private_redis import private_redis
from service.local.triton import LocalTriton, local_triton
from tests.support.toy_model import LESS_STEEP, write_toy_model
from tests.support.tritons import write_gated_repository


@pytest.fixture(scope="session")
async def redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of a real Redis, shared by all tests of the run: use keys nobody else uses."""
    async with private_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def toy_repository(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model as Triton's Python backend serves it, and another one beside it."""
    target, other = tmp_path_factory.mktemp("triton"), tmp_path_factory.mktemp("other")
    write_gated_repository(toy_folder, target)
    write_toy_model(other, name="other", weights=LESS_STEEP)
    write_repository(other, "other", target, threads=1)
    return target


@pytest.fixture(scope="session")
def triton(toy_repository: Path) -> Iterator[LocalTriton]:
    """A Triton that no test ends."""
    with local_triton(toy_repository) as server:
        yield server
