"""`tamvt keys`: makes, lists and revokes API keys, where TAMVT_KEYS says that they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from service.access.key_stores import IN_REDIS, KeyFile, RedisKeys
from service.access.keys import KeyStore, Scope, make_key
from service.errors import Misconfigured
from service.settings import Settings, read_settings
from service.store.redis_client import open_redis
from service.telemetry.audit import audit
from service.telemetry.logging import configure_logging

DURATION: Final = re.compile(r"(\d{1,5})([hd])")
Config = Annotated[Path | None, Parameter(help="TOML file of settings")]
COLUMNS: Final = "{:<13} {:<8} {:<16} {:<16} {:<26} {}"


def create(
    *,
    tenant: Annotated[str, Parameter(help="whose sessions it opens")],
    scopes: Annotated[
        list[Scope], Parameter(consume_multiple=True, help="what it allows: read, write, admin")
    ] = ["read", "write"],  # noqa: B006  # cyclopts shows it and never changes it
    expires: Annotated[str, Parameter(help="how long it is valid: 12h or 90d; empty: always")] = "",
    comment: Annotated[str, Parameter(help="what it is for; shown by `list`")] = "",
    config: Config = None,
) -> int:
    """Make a key and print it: it is shown this once."""
    until = datetime.now(UTC) + read_duration(expires) if expires else None
    text, kept = make_key(tenant, scopes, expires_at=until, comment=comment)
    settings = read_key_settings(config)

    async def put() -> None:
        async with _store(settings) as store:
            await store.put(kept)

    asyncio.run(put())
    audit("key.created", key=kept.key_id, tenant=tenant, scopes=" ".join(kept.scopes))
    print(text)
    return 0


def list_keys(*, config: Config = None) -> int:
    """Print every key, without its secret."""
    settings = read_key_settings(config)

    async def read() -> list[str]:
        async with _store(settings) as store:
            keys = sorted(await store.keys(), key=lambda each: each.created_at)
        now = datetime.now(UTC)
        return [
            COLUMNS.format(
                each.key_id,
                each.state(now),
                each.tenant,
                ",".join(each.scopes),
                each.expires_at or "never",
                each.comment,
            )
            for each in keys
        ]

    rows = asyncio.run(read())
    print(
        "\n".join([COLUMNS.format("id", "state", "tenant", "scopes", "expires", "comment"), *rows])
    )
    return 0


def revoke(
    key_id: Annotated[str, Parameter(help="the id that `list` shows")], /, *, config: Config = None
) -> int:
    """Make a key invalid: at once where it is in a file, within 5 seconds in Redis."""
    settings = read_key_settings(config)

    async def put() -> str:
        async with _store(settings) as store:
            kept = await store.find(key_id)
            if kept is None:
                raise Misconfigured(f"there is no key {key_id}: see tamvt keys list")
            if not kept.revoked_at:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                await store.put(replace(kept, revoked_at=now))
            return kept.tenant

    audit("key.revoked", key=key_id, tenant=asyncio.run(put()))
    return 0


def read_key_settings(config: Path | None) -> Settings:
    """Return the settings; raise Misconfigured unless they say where keys are."""
    settings = read_settings(config)
    configure_logging(settings.log_level, log_format=settings.log_format)
    if not settings.keys:
        raise Misconfigured("TAMVT_KEYS: say where the keys are, in a file or in redis")
    if settings.keys == IN_REDIS and not settings.redis_url:
        raise Misconfigured("TAMVT_REDIS_URL: needed for keys in redis; a private one has no peers")
    return settings


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[KeyStore]:
    """Open the keys where the settings say that they are."""
    if settings.keys != IN_REDIS:
        yield KeyFile(Path(settings.keys))
        return
    deadline_s = settings.redis_deadline_s
    client = open_redis(settings.redis_url, deadline_s=deadline_s, max_connections=1)
    async with client as redis:
        yield RedisKeys(redis, deadline_s=deadline_s)


def read_duration(text: str) -> timedelta:
    """Return what `12h` or `90d` means; raise Misconfigured."""
    found = DURATION.fullmatch(text)
    if found is None:
        raise Misconfigured(f"--expires {text}: write hours or days, as 12h or 90d")
    number = int(found[1])
    return timedelta(hours=number) if found[2] == "h" else timedelta(days=number)
