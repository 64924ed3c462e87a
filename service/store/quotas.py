"""How many sessions each tenant has, over all gateways: a sorted set in Redis for each tenant.

A place is taken before the session is committed, for they may be on two nodes of a cluster, and
given back when it is deleted. Each place has a time from which on it proves nothing by itself:
whoever finds no place free then looks whether those sessions are still there. So nothing has to be
written when a session is used, and a place whose session expired, or was never committed, is free
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from service.errors import StoreUnavailable, TamvtError, TooMany
from service.store import lua
from service.store.redis_client import Client, key, run_script, translated

DEFAULT_TENANT: Final = "default"  # where nobody says who calls
LOOKS_AT_ONCE: Final = 200  # sessions
DEADLINES: Final = 4  # for a commit that begins now, sent twice, with time to spare
KEPT_MS: Final = 86_400_000  # of a tenant that starts nothing, beyond its sessions' time
LONGEST_WAIT_S: Final = 60.0  # told to a client: other sessions may be deleted before they expire
LEAST_MS: Final = 1000  # between two looks at what is still there
GONE: Final = -2  # Redis's word for the time left of what is not there


class SessionQuota:
    """At most `limit` sessions of each tenant; 0: as many as they like."""

    def __init__(self, redis: Client, *, limit: int, ttl_ms: int, deadline_s: float) -> None:
        self._redis = redis
        self._limit = limit
        self._deadline_s = deadline_s
        self._first_look_ms = round(1000 * DEADLINES * deadline_s)
        self._kept_ms = ttl_ms + KEPT_MS

    @asynccontextmanager
    async def taken(self, tenant: str, session_id: str) -> AsyncIterator[None]:
        """A place for a session that the block commits; TooMany where there is none."""
        if not self._limit:
            yield
            return
        await self._take(tenant, session_id)
        try:
            yield
        except TamvtError:
            # It may be committed all the same: whoever needs the place looks.
            with suppress(StoreUnavailable):
                await self._settle(tenant, [(session_id, 0)])
            raise

    async def give_back(self, tenant: str, session_id: str) -> None:
        """The session is gone. Without an answer of Redis its place stays until it is looked at."""
        if self._limit:
            with suppress(StoreUnavailable):
                await self._settle(tenant, [(session_id, GONE)])

    async def _take(self, tenant: str, session_id: str) -> None:
        arguments = (session_id, self._limit, self._first_look_ms, self._kept_ms, LOOKS_AT_ONCE)
        while True:
            is_taken, *others = await self._send(lua.RESERVE, tenant, arguments)
            if is_taken:
                return
            left_ms, *due = others
            if not due:
                raise TooMany(
                    f"this tenant has {self._limit} sessions, and may not have more",
                    limit=self._limit,
                    retry_after_s=min(max(1.0, left_ms / 1000), LONGEST_WAIT_S),
                )
            await self._look(tenant, [name.decode() for name in due])

    async def _look(self, tenant: str, session_ids: Sequence[str]) -> None:
        """Finds out which of these sessions are still there, and until when at least."""
        with translated():
            deadline = asyncio.timeout(self._deadline_s)
            async with deadline, self._redis.pipeline(transaction=False) as asked:
                for session_id in session_ids:
                    asked.pttl(key(session_id, "session"))
                found = await asked.execute()
        left_ms = (GONE if left == GONE else max(left, LEAST_MS) for left in found)
        await self._settle(tenant, list(zip(session_ids, left_ms, strict=True)))

    async def _settle(self, tenant: str, found: Sequence[tuple[str, int]]) -> None:
        arguments = [word for pair in found for word in pair]
        await self._send(lua.SETTLE, tenant, [self._kept_ms, *arguments])

    async def _send(self, script: lua.Script, tenant: str, arguments: Sequence[Any]) -> Any:
        """What the script answers; both do the same when they are sent twice."""
        keys = [key(f"tenant:{tenant}", "sessions")]
        with translated():
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await run_script(self._redis, script, keys, arguments)
                except RedisConnectionError:
                    return await run_script(self._redis, script, keys, arguments)
