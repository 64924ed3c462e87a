"""Ownership: which stream, of all gateways, is a session's. Redis holds the answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from service.store.session_store import STREAM_OWNER, SessionStore
from service.stream.tasks import end_tasks

OWNER_TTL_S: Final = 3600.0  # claimed again by a stream that is open for longer


class Ownership:
    """Which stream is a session's, over all gateways: the newest one."""

    def __init__(self, store: SessionStore, session_id: str) -> None:
        self._store = store
        self.session_id = session_id
        self.token = secrets.token_hex(8)  # decision 36

    async def claim(self) -> None:
        """Make this stream the session's from now on."""
        await self._store.set_side_key(self.session_id, STREAM_OWNER, self.token, ttl_s=OWNER_TTL_S)

    async def is_mine(self) -> bool:
        """Return whether no other stream has claimed the session since."""
        return await self.is_named(await self._store.read_side_key(self.session_id, STREAM_OWNER))

    async def is_named(self, owner: str | None) -> bool:
        """Return whether `owner`, which the store gave, is this stream; claim what has no owner."""
        if owner is None:
            await self.claim()
        return owner in (None, self.token)


class OwnershipWatch:
    """Looks, for all streams of this process at once, whether they are still their sessions'."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._asked: dict[Ownership, asyncio.Future[bool]] = {}
        self._wanted = asyncio.Event()

    def ownership(self, session_id: str) -> Ownership:
        """Return the ownership of a new stream, which has not claimed the session yet."""
        return Ownership(self._store, session_id)

    async def look(self, ownership: Ownership) -> bool:
        """Wait for the next look; return whether the session is still that stream's, or raise."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked[ownership] = answer
        self._wanted.set()
        try:
            return await answer
        finally:
            if self._asked.get(ownership) is answer:
                del self._asked[ownership]

    async def run(self, *, every_s: float) -> None:
        """Look at this interval, while streams ask, until cancelled."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(every_s)
            self._wanted.clear()
            asked, self._asked = self._asked, {}
            owners: Sequence[str | Exception | None]
            try:
                owners = await self._store.read_side_keys(
                    [one.session_id for one in asked], STREAM_OWNER
                )
            except Exception as error:  # of any kind: each stream that asked raises it
                owners = [error] * len(asked)
            for (ownership, answer), owner in zip(asked.items(), owners, strict=True):
                try:
                    if isinstance(owner, Exception):
                        raise owner
                    is_mine = await ownership.is_named(owner)
                except Exception as error:
                    if not answer.done():
                        answer.set_exception(error)
                else:
                    if not answer.done():
                        answer.set_result(is_mine)


@asynccontextmanager
async def watch_ownership(
    store: SessionStore, *, every_s: float = 2.0
) -> AsyncIterator[OwnershipWatch]:
    """Yield a watch that looks at this interval, until the block is left."""
    watch = OwnershipWatch(store)
    task = asyncio.create_task(watch.run(every_s=every_s))
    try:
        yield watch
    finally:
        await end_tasks([task])
