"""What gateways tell each other about streams: tickets, and whose stream a session's is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from service.store.session_store import SessionStore
from service.stream.tasks import end_tasks

OWNER: Final = "stream"  # the name of the note
OWNER_TTL_S: Final = 3600.0  # claimed again by a stream that is open for longer


class Ownership:
    """Which stream is a session's, over all gateways: the newest one."""

    def __init__(self, store: SessionStore, session_id: str) -> None:
        self._store = store
        self.session_id = session_id
        self._token = secrets.token_hex(8)  # decision 36

    async def claim(self) -> None:
        """The session's stream is this one from now on."""
        await self._store.set_side_key(self.session_id, OWNER, self._token, ttl_s=OWNER_TTL_S)

    async def is_mine(self) -> bool:
        """Whether no other stream has claimed the session since."""
        return await self.is_named(await self._store.read_side_key(self.session_id, OWNER))

    async def is_named(self, owner: str | None) -> bool:
        """The same, where the note was read already; what nobody claims any more it claims."""
        if owner is None:
            await self.claim()
        return owner in (None, self._token)


class OwnershipWatch:
    """Looks, for all streams of this process at once, whether they are still their sessions'."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._asked: dict[Ownership, asyncio.Future[bool]] = {}
        self._wanted = asyncio.Event()

    async def look(self, ownership: Ownership) -> bool:
        """Whether the session is still that stream's, at the next look; what the store raises."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked[ownership] = answer
        self._wanted.set()
        try:
            return await answer
        finally:
            if self._asked.get(ownership) is answer:
                del self._asked[ownership]

    async def run(self, *, every_s: float) -> None:
        """Looks until it is cancelled, if somebody asks."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(every_s)
            self._wanted.clear()
            asked, self._asked = self._asked, {}
            if asked:
                await self._respond(asked)

    async def _respond(self, asked: Mapping[Ownership, asyncio.Future[bool]]) -> None:
        owners: Sequence[str | Exception | None]
        try:
            owners = await self._store.read_side_keys([one.session_id for one in asked], OWNER)
        except Exception as error:  # whatever it is, whoever asked hears of it
            owners = [error] * len(asked)
        for (ownership, answer), owner in zip(asked.items(), owners, strict=True):
            await _tell(answer, ownership, owner)


@asynccontextmanager
async def watch_ownership(
    store: SessionStore, *, every_s: float = 2.0
) -> AsyncIterator[OwnershipWatch]:
    """A lookout that looks so often, until the block is left."""
    watch = OwnershipWatch(store)
    task = asyncio.create_task(watch.run(every_s=every_s))
    try:
        yield watch
    finally:
        await end_tasks([task])


async def _tell(
    answer: asyncio.Future[bool], ownership: Ownership, owner: str | Exception | None
) -> None:
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
