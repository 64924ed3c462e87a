"""A session without a store: it keeps what the store would."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress

import numpy as np
from numpy.typing import NDArray

from model.core.memory import Memory
from service.engines.base import BankLease, ClipMasks, Engine, EntryPicture
from service.engines.states import StateSource, encode_state
from tests.support.scenes import SIZE, clip, faded, picture


class Video:
    """One session on the drawn scenes."""

    def __init__(
        self,
        *,
        session_id: str = "a",
        object_ids: Sequence[int] = (1,),
        capacity: int = 3,
        fades: bool = False,
    ) -> None:
        self.fades = fades  # object 1 in every other clip, so that entries differ
        self.session_id = session_id
        self.object_ids = tuple(object_ids)
        self.version = 1
        self.memory = Memory.start(0, object_ids, capacity=capacity)
        self.pictures = {0: picture(0, object_ids)}
        self.stored: bytes | None = None  # the model's own state, if it has one
        self.rebuilds = 0

    async def kept(self) -> Sequence[EntryPicture]:
        self.rebuilds += 1
        return [self.pictures[entry.frame] for entry in self.memory.entries]

    def lease(self, engine: Engine) -> AbstractAsyncContextManager[BankLease]:
        return engine.lease(
            self.session_id,
            version=self.version,
            memory=self.memory,
            model_size=SIZE,
            pictures=self.kept,
            state=StateSource(self.read_state),
        )

    async def read_state(self) -> bytes | None:
        return self.stored

    def commit(self, bank: BankLease, answer: ClipMasks) -> None:
        """Commit what is segmented, and keep the state as the store does."""
        self.version += 1
        bank.commit(self.version)
        if state := bank.state():
            weights = answer.weights_sha256
            self.stored = encode_state(state, self.object_ids, weights_sha256=weights)

    async def segment(
        self, bank: BankLease, first: int, last: int, *, lost: Collection[int] = ()
    ) -> ClipMasks:
        """Segment and remember one clip; its entry does not know the objects that are `lost`."""
        known = [object_id for object_id in self.object_ids if object_id not in lost]
        after = self.memory.remember(last, known) if known else self.memory
        frames = clip(first, last, self.object_ids)
        if self.fades and last % 4 < 2:
            frames = faded(frames)
        answer = await bank.segment(frames, before=self.memory, object_ids=self.object_ids)
        if after is not self.memory:
            await bank.remember(after)
        self.memory = after
        rows = [row for row, name in enumerate(self.object_ids) if name in known]
        self.pictures[last] = EntryPicture(frames[-1], answer.masks[-1][rows])
        return answer

    async def append(
        self, engine: Engine, first: int, last: int, *, lost: Collection[int] = ()
    ) -> ClipMasks:
        """Segment, remember and commit one clip."""
        async with self.lease(engine) as bank:
            answer = await self.segment(bank, first, last, lost=lost)
            self.commit(bank, answer)
        return answer

    async def look(self, engine: Engine, frames: NDArray[np.uint8]) -> ClipMasks:
        """Segment and commit one clip without remembering it."""
        async with self.lease(engine) as bank:
            answer = await bank.segment(frames, before=self.memory, object_ids=self.object_ids)
            self.commit(bank, answer)
        return answer

    async def abandon(self, engine: Engine, first: int, last: int, *, delay_s: float) -> None:
        """Begin one clip and cancel it after `delay_s`; the session stays as it was."""
        memory = self.memory

        async def begun() -> None:
            async with self.lease(engine) as bank:
                await self.segment(bank, first, last)
                await asyncio.sleep(10)

        task = asyncio.create_task(begun())
        await asyncio.sleep(delay_s)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        self.memory = memory
