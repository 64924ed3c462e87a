"""How many streams each tenant has open, over all gateways.

A stream is counted by its session, since a session has one: who connects again, perhaps elsewhere
after a gateway has died, is counted once. A count that is not renewed ends by itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from service.errors import StoreUnavailable, TooMany
from service.store import lua
from service.store.redis_client import Client, key, run_script, translate_errors

COUNTED_S: Final = 60.0  # of a gateway that died
RENEWED_S: Final = 20.0


class StreamQuota:
    """The open streams of each tenant."""

    def __init__(self, redis: Client, *, most: int, deadline_s: float) -> None:
        self._redis = redis
        self._most = most
        self._deadline_s = deadline_s

    @asynccontextmanager
    async def reserve(self, tenant: str, session_id: str) -> AsyncIterator[None]:
        """Count the session's stream for the block; raise TooMany at the quota."""
        token = secrets.token_hex(8)
        if not await self._enter(tenant, session_id, token, renewing=False):
            raise TooMany(
                f"{self._most} streams of one tenant are open: end one, or raise "
                "TAMVT_MAX_TENANT_STREAMS",
                limit=self._most,
            )
        renewing = asyncio.create_task(self._renew(tenant, session_id, token))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with suppress(StoreUnavailable):  # it is counted no longer in a minute
                await self._send(lua.LEAVE, tenant, [session_id, token])

    async def _renew(self, tenant: str, session_id: str, token: str) -> None:
        while True:
            await asyncio.sleep(RENEWED_S)
            with suppress(StoreUnavailable):
                await self._enter(tenant, session_id, token, renewing=True)

    async def _enter(self, tenant: str, session_id: str, token: str, *, renewing: bool) -> bool:
        arguments = [session_id, token, self._most, round(1000 * COUNTED_S), int(renewing)]
        return bool(await self._send(lua.ENTER, tenant, arguments))

    async def _send(self, script: lua.Script, tenant: str, arguments: Sequence[Any]) -> Any:
        keys = [key(f"tenant:{tenant}", part) for part in ("streams", "stream-tokens")]
        with translate_errors():
            async with asyncio.timeout(self._deadline_s):
                return await run_script(self._redis, script, keys, arguments)
