"""The quota of sessions that each tenant has, over all gateways: a sorted set in Redis a tenant.

A session is counted before it is committed, since the two keys may be on two nodes of a cluster. It
is no longer counted when it is deleted. Sessions that expired, or were never committed, are found
by a check: each counted session has a time in the set, and when the quota is used up, those whose
time has come are looked for in Redis. So using a session writes nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from service.errors import StoreUnavailable, TamvtError, TooMany
from service.store import lua
from service.store.redis_client import Client, key, run_script, translate_errors

CHECKED_AT_ONCE: Final = 200  # sessions
DEADLINES: Final = 4  # for a commit that begins now, sent twice, with time to spare
KEPT_MS: Final = 86_400_000  # of a tenant that starts nothing, beyond its sessions' time
LONGEST_WAIT_S: Final = 60.0  # in an answer: other sessions may be deleted before they expire
LEAST_MS: Final = 1000  # between two checks of one session
MISSING: Final = -2  # what Redis answers for the time left of a key that does not exist


class SessionQuota:
    """At most `limit` sessions of each tenant; 0 sets no limit."""

    def __init__(self, redis: Client, *, limit: int, ttl_ms: int, deadline_s: float) -> None:
        self._redis = redis
        self._limit = limit
        self._deadline_s = deadline_s
        self._first_check_ms = round(1000 * DEADLINES * deadline_s)
        self._ttl_ms = ttl_ms
        self._kept_ms = ttl_ms + KEPT_MS

    @asynccontextmanager
    async def reserve(self, tenant: str, session_id: str) -> AsyncIterator[None]:
        """Count a session that the block commits; raise TooMany if the quota is used up."""
        if not self._limit:
            yield
            return
        await self._count(tenant, session_id)
        try:
            yield
            if self._ttl_ms < self._first_check_ms:
                # It may expire before that check: it is committed, so an earlier one is safe.
                with suppress(StoreUnavailable):
                    await self._settle(tenant, [(session_id, max(self._ttl_ms, LEAST_MS))])
        except TamvtError:
            # It may be committed all the same: the next check finds out.
            with suppress(StoreUnavailable):
                await self._settle(tenant, [(session_id, 0)])
            raise

    async def release(self, tenant: str, session_id: str) -> None:
        """Count a deleted session no longer. If Redis does not answer, the next check does it."""
        if self._limit:
            with suppress(StoreUnavailable):
                await self._settle(tenant, [(session_id, MISSING)])

    async def _count(self, tenant: str, session_id: str) -> None:
        """Count the session, after checks where they may help; raise TooMany."""
        arguments = (session_id, self._limit, self._first_check_ms, self._kept_ms, CHECKED_AT_ONCE)
        while True:
            is_counted, *others = await self._send(lua.RESERVE, tenant, arguments)
            if is_counted:
                return
            left_ms, *due = others
            if not due:
                raise TooMany(
                    f"this tenant has {self._limit} sessions, and may not have more",
                    limit=self._limit,
                    retry_after_s=min(max(1.0, left_ms / 1000), LONGEST_WAIT_S),
                )
            # Find out which of those still exist, and when to check each again.
            names = [name.decode() for name in due]
            with translate_errors():
                deadline = asyncio.timeout(self._deadline_s)
                async with deadline, self._redis.pipeline(transaction=False) as asked:
                    for name in names:
                        asked.pttl(key(name, "session"))
                    left = await asked.execute()
            next_ms = [ms if ms == MISSING else max(ms, LEAST_MS) for ms in left]
            await self._settle(tenant, list(zip(names, next_ms, strict=True)))

    async def _settle(self, tenant: str, found: Sequence[tuple[str, int]]) -> None:
        arguments = [value for pair in found for value in pair]
        await self._send(lua.SETTLE, tenant, [self._kept_ms, *arguments])

    async def _send(self, script: lua.Script, tenant: str, arguments: Sequence[Any]) -> Any:
        """Return what the script answers. Either script may be sent twice: that changes nothing."""
        keys = [key(f"tenant:{tenant}", "sessions")]
        with translate_errors():
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await run_script(self._redis, script, keys, arguments)
                except RedisConnectionError:
                    return await run_script(self._redis, script, keys, arguments)
