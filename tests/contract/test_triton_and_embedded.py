"""The shipped model on a real Triton: the same masks as in the embedded engine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.masks import soft_masks
from model.core.memory import Memory
from model.core.pixels import resize_frame
from model.export.triton.repository import write_repository
from service.engines.base import Engine, EntryPicture
from service.engines.embedded import embedded_engine
from service.engines.triton.engine import SharedMemory, triton_engine
from service.local.triton import local_triton
from tests.support import scene
from tests.support.tritons import regions

pytestmark = pytest.mark.anyio

SHIPPED = Path(__file__).resolve().parents[2] / "model" / "weights"
NAME = "tamvt-mobile"
CLIPS = ((1, 2), (3,))


@pytest.fixture
def prefix() -> Iterator[str]:
    """What the names of the test's own regions begin with; none is left when it ends."""
    chosen = f"tamvt-test-{secrets.token_hex(4)}"
    yield chosen
    assert regions(chosen) == []


async def follow(engine: Engine) -> list[NDArray[np.uint8]]:
    """The soft masks (L, O, h, w) of each clip of the scene's two objects."""
    size = engine.spec.buckets.sizes[0]
    truth = scene.labels(0, objects=2)
    given = np.stack([truth == 1, truth == 2])
    reference = EntryPicture(
        resize_frame(scene.picture(0, objects=2), size), soft_masks(given, size)
    )
    memory = Memory.start(0, [1, 2], capacity=3)

    async def pictures() -> Sequence[EntryPicture]:
        return [reference]

    found = []
    async with engine.lease(
        "a", version=1, memory=memory, model_size=size, pictures=pictures
    ) as bank:
        for numbers in CLIPS:
            frames = np.stack([resize_frame(scene.picture(n, objects=2), size) for n in numbers])
            answer = await bank.segment(frames, before=memory, object_ids=[1, 2])
            memory = memory.remember(numbers[-1], [1, 2])
            await bank.remember(memory)
            found.append(answer.masks)
    return found


async def test_the_shipped_model_gives_the_same_masks_on_triton(
    tmp_path: Path, prefix: str
) -> None:
    write_repository(SHIPPED, NAME, tmp_path, threads=1)
    with local_triton(tmp_path) as server:
        async with triton_engine(server.url, NAME, memory=SharedMemory(prefix=prefix)) as engine:
            there = await follow(engine)
    async with embedded_engine(SHIPPED, NAME, threads=1) as engine:
        here = await follow(engine)
    for mine, theirs in zip(here, there, strict=True):
        assert (mine >= 128).any(axis=(0, 2, 3)).all()
        assert np.array_equal(mine, theirs)
