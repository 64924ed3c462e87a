"""What each tenant may store, over all gateways: sessions, in a sorted set in Redis, and bytes.

A session is counted before it is committed, since the two keys may be on two nodes of a cluster. It
is no longer counted when it is deleted. Sessions that expired, or were never committed, are found
by a check: each counted session has a time in the set, and when the quota is used up, those whose
time has come are looked for in Redis. Bytes are reserved for each session ahead of need, and given
back with it. So most uses of a session write nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from service.errors import StoreUnavailable, TamvtError, TooMany
from service.store import lua
from service.store.records import Session, StoreLimits
from service.store.redis_client import Client, key, run_script, translate_errors

CHECKED_AT_ONCE: Final = 200  # sessions
DEADLINES: Final = 4  # for a commit that begins now, sent twice, with time to spare
KEPT_MS: Final = 86_400_000  # of a tenant that starts nothing, beyond its sessions' time
LONGEST_WAIT_S: Final = 60.0  # in an answer: other sessions may be deleted before they expire
AHEAD: Final = 4  # a quarter more bytes are reserved than are asked for, in whole steps
STEP_BYTES: Final = 2**16
LEAST_MS: Final = 1000  # between two checks of one session
MISSING: Final = -2  # what Redis answers for the time left of a key that does not exist


class SessionQuota:
    """The sessions of each tenant, and the bytes that they may take, within the limits."""

    def __init__(
        self, redis: Client, *, limits: StoreLimits, ttl_ms: int, deadline_s: float
    ) -> None:
        self._redis = redis
        self._limits = limits
        self._deadline_s = deadline_s
        self._first_check_ms = round(1000 * DEADLINES * deadline_s)
        self._ttl_ms = ttl_ms
        self._kept_ms = ttl_ms + KEPT_MS

    @asynccontextmanager
    async def reserve(
        self, tenant: str, session_id: str, nbytes: int, *, objects: int
    ) -> AsyncIterator[int]:
        """Count a session that the block commits, and yield the bytes that it may take.

        Raise TooMany if the quota of sessions, of bytes or of objects is used up.
        """
        reserved = await self._count(tenant, session_id, nbytes, objects)
        try:
            yield reserved
            if self._ttl_ms < self._first_check_ms:
                # It may expire before that check: it is committed, so an earlier one is safe.
                with suppress(StoreUnavailable):
                    await self._settle(tenant, [(session_id, max(self._ttl_ms, LEAST_MS))])
        except TamvtError:
            # It may be committed all the same: the next check finds out.
            with suppress(StoreUnavailable):
                await self._settle(tenant, [(session_id, 0)])
            raise

    async def grow(self, before: Session, nbytes: int, *, tenant: str, objects: int) -> int:
        """Return the bytes that a session may take, at least `nbytes`; raise TooMany.

        They are reserved ahead, so that few commits ask. `before` is the session as it is.
        """
        limits, reserved = self._limits, before.reserved_bytes
        more_bytes = limits.tenant_bytes and nbytes > reserved
        more_objects = limits.tenant_objects and objects > len(before.object_ids)
        if not more_bytes and not more_objects:
            return reserved
        return await self._count(tenant, before.session_id, max(nbytes, reserved), objects)

    async def release(self, tenant: str, session_id: str) -> None:
        """Count a deleted session no longer. If Redis does not answer, the next check does it."""
        with suppress(StoreUnavailable):
            await self._settle(tenant, [(session_id, MISSING)])

    async def session_ids(self, tenant: str) -> list[str]:
        """Return the ids of the counted sessions, in order; some may have expired."""
        with translate_errors():
            async with asyncio.timeout(self._deadline_s):
                found = await self._redis.zrange(key(f"tenant:{tenant}", "sessions"), 0, -1)
        return sorted(name.decode() for name in found if isinstance(name, bytes))

    async def _count(self, tenant: str, session_id: str, nbytes: int, objects: int) -> int:
        """Count session, bytes and objects, after checks where they may help; raise TooMany."""
        limits = self._limits
        ahead = -(-(nbytes + nbytes // AHEAD) // STEP_BYTES) * STEP_BYTES
        arguments = [session_id, limits.tenant_sessions, self._first_check_ms, self._kept_ms]
        arguments += [CHECKED_AT_ONCE, limits.tenant_bytes, ahead, nbytes]
        arguments += [limits.tenant_objects, objects]
        while True:
            is_counted, *others = await self._send(lua.RESERVE, tenant, arguments)
            if is_counted:
                return int(others[0])
            used_up, left_ms, *due = others
            if not due:
                message, limit = {
                    b"bytes": (
                        "this tenant's sessions hold the {} bytes that they may hold: delete "
                        "some, or raise TAMVT_TENANT_BYTES",
                        limits.tenant_bytes,
                    ),
                    b"objects": (
                        "this tenant's sessions track the {} objects that they may track: delete "
                        "some sessions, or raise TAMVT_TENANT_OBJECTS",
                        limits.tenant_objects,
                    ),
                    b"sessions": (
                        "this tenant has {} sessions: delete some, or raise TAMVT_TENANT_SESSIONS",
                        limits.tenant_sessions,
                    ),
                }[used_up]
                raise TooMany(
                    message.format(limit),
                    limit=limit,
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
        keys = [key(f"tenant:{tenant}", part) for part in ("sessions", "bytes", "objects")]
        with translate_errors():
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await run_script(self._redis, script, keys, arguments)
                except RedisConnectionError:
                    return await run_script(self._redis, script, keys, arguments)
