"""What each tenant may use in a second, over all gateways: buckets of tokens in Redis.

A bucket gains its rate each second up to what ten seconds gain, so that a pause may be made up for.
Frames are taken before they are tracked. Seconds of the engine are counted when they are spent: a
bucket may fall below zero, and the next clip waits until it has been paid back.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Final, Literal

from service.errors import RateLimited
from service.store import lua
from service.store.redis_client import Client, key, run_script, translate_errors

Resource = Literal["frames", "engine"]
GAINED_S: Final = 10.0  # what a full bucket holds, in seconds of its rate
MS: Final = 1000  # engine seconds are counted in milliseconds: answers hold whole tokens
SETTINGS: Final = {"frames": "TAMVT_TENANT_FRAMES_PER_S", "engine": "TAMVT_TENANT_ENGINE_SHARE"}
UNITS: Final = {"frames": "frames", "engine": "ms of the model"}


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What one tenant may use in a second; 0 sets no limit."""

    frames_per_s: float = 0.0
    engine_share: float = 0.0  # seconds of the engine in a second


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a bucket: whole tokens, of at most `most`, gained in `GAINED_S`."""

    resource: Resource
    most: int
    left: int
    reset_s: float  # until what was asked for would be there

    def headers(self) -> dict[str, str]:
        """Return the headers RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit)."""
        seconds = max(0, math.ceil(self.reset_s))
        return {
            "RateLimit-Policy": f'"{self.resource}";q={self.most};w={GAINED_S:.0f}',
            "RateLimit": f'"{self.resource}";r={self.left};t={seconds}',
        }


class TenantRates:
    """The buckets of all tenants."""

    def __init__(self, redis: Client, *, limits: RateLimits, deadline_s: float) -> None:
        self._redis = redis
        self._rates: dict[Resource, float] = {
            "frames": limits.frames_per_s,
            "engine": MS * limits.engine_share,
        }
        self._deadline_s = deadline_s

    async def take_frames(self, tenant: str, count: int) -> Allowance | None:
        """Take frames that are about to be tracked, and return what is left; None: no limit.

        Raise RateLimited if there are too few, or the tenant's seconds of the engine are used up.
        Zero frames only ask whether there are any.
        """
        await self._take("engine", tenant, 0)
        return await self._take("frames", tenant, count)

    async def give_frames(self, tenant: str, count: int) -> None:
        """Give frames back that were taken and not tracked."""
        await self._take("frames", tenant, -count, owed=True)

    async def count_frames(self, tenant: str, count: int) -> float:
        """Count frames that were tracked, and return the seconds until there may be more."""
        if count:
            await self._take("frames", tenant, count, owed=True)
        try:
            await self.take_frames(tenant, 0)
        except RateLimited as error:
            return error.retry_after_s
        return 0.0

    async def spend_engine(self, tenant: str, seconds: float) -> None:
        """Count seconds of the engine that were spent."""
        if self._rates["engine"] and seconds > 0:
            await self._take("engine", tenant, round(MS * seconds), owed=True)

    async def _take(
        self, resource: Resource, tenant: str, wanted: int, *, owed: bool = False
    ) -> Allowance | None:
        rate = self._rates[resource]
        if not rate:
            return None
        most = max(1, round(GAINED_S * rate))
        keys = [key(f"tenant:{tenant}", f"rate:{resource}")]
        with translate_errors():
            async with asyncio.timeout(self._deadline_s):
                given, left, wait_ms = await run_script(
                    self._redis, lua.TAKE, keys, [rate, most, wanted, int(owed)]
                )
        allowance = Allowance(resource, most, left, wait_ms / 1000)
        if given:
            return allowance
        shown = f"{rate:g} {UNITS[resource]}"
        raise RateLimited(
            f"this tenant may use {shown} a second, and as much at once as {GAINED_S:.0f} seconds "
            f"gain ({SETTINGS[resource]}); there is enough again in {wait_ms / 1000:.1f} s",
            limit=most,
            retry_after_s=max(0.001, wait_ms / 1000),
            headers=allowance.headers(),
        )
