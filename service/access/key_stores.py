"""Where API keys are kept: in a file of this machine, or in the Redis of the sessions."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.access.keys import ApiKey
from service.errors import Misconfigured, StoreUnavailable
from service.store.redis_client import Client, key, translate_errors

IN_REDIS: Final = "redis"  # the setting's value for keys in Redis
CACHED_S: Final = 5.0  # a revoked key is refused everywhere after this time
CACHED_KEYS: Final = 10_000
PRIVATE: Final = 0o600


class KeyFile:
    """Keys in a JSON file. It is read again when it has changed; a write replaces it whole."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        self._seen: tuple[int, int, int] | None = None
        self._keys: Mapping[str, ApiKey] = {}

    async def find(self, key_id: str) -> ApiKey | None:
        """See `KeyStore.find`."""
        self._refresh()
        return self._keys.get(key_id)

    async def keys(self) -> list[ApiKey]:
        """See `KeyStore.keys`."""
        self._refresh()
        return list(self._keys.values())

    async def put(self, key: ApiKey) -> None:
        """See `KeyStore.put`."""
        with self._locked():
            if self._path.exists():
                self._refresh()
            keys = {**self._keys, key.key_id: key}
            text = json.dumps({"keys": [each.members() for each in keys.values()]}, indent=1)
            made = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
            made.touch(mode=PRIVATE)
            with made.open("w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            made.replace(self._path)

    def check(self) -> None:
        """Raise Misconfigured unless the file can be read, and only by its owner and group."""
        try:
            self._refresh()
        except StoreUnavailable as error:
            raise Misconfigured(f"TAMVT_KEYS: {error}") from error
        if self._path.stat().st_mode & 0o007:
            raise Misconfigured(f"TAMVT_KEYS: anybody may use {self._path}: chmod 600 it")

    def _refresh(self) -> None:
        try:
            now = self._path.stat()
            seen = (now.st_mtime_ns, now.st_size, now.st_ino)
            if seen == self._seen:
                return
            records = json.loads(self._path.read_text(encoding="utf-8"))["keys"]
            keys = [ApiKey.read(record) for record in records]
        except FileNotFoundError as error:
            message = f"there is no file {self._path}: `tamvt keys create` makes it"
            raise StoreUnavailable(message) from error
        except (OSError, ValueError, TypeError, KeyError, Misconfigured) as error:
            raise StoreUnavailable("the file of keys cannot be read") from error
        self._keys, self._seen = {each.key_id: each for each in keys}, seen

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other process write meanwhile; raise Misconfigured if nothing can be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise Misconfigured(f"TAMVT_KEYS: {error.strerror}: {self._path}") from error


class RedisKeys:
    """Keys in Redis, for all gateways. What was found, or not, is remembered for 5 seconds."""

    def __init__(self, redis: Client, *, deadline_s: float) -> None:
        self._redis = redis
        self._deadline_s = deadline_s
        self._found: dict[str, tuple[float, ApiKey | None]] = {}

    async def find(self, key_id: str) -> ApiKey | None:
        """See `KeyStore.find`."""
        now = time.monotonic()
        since, known = self._found.get(key_id, (float("-inf"), None))
        if now - since < CACHED_S:
            return known
        with translate_errors():
            async with asyncio.timeout(self._deadline_s):
                text = await self._redis.get(key(f"key:{key_id}", "record"))
        found = read_record(text)
        if len(self._found) >= CACHED_KEYS:  # guesses, most of them
            self._found.clear()
        self._found[key_id] = (now, found)
        return found

    async def keys(self) -> list[ApiKey]:
        """See `KeyStore.keys`."""
        with translate_errors():
            async with asyncio.timeout(self._deadline_s):
                members = await self._redis.smembers(key("keys", "ids"))
        found = [await self.find(str(each, "ascii")) for each in members if isinstance(each, bytes)]
        return [each for each in found if each is not None]

    async def put(self, key_: ApiKey) -> None:
        """See `KeyStore.put`."""
        text = json.dumps(key_.members())
        with translate_errors():
            async with asyncio.timeout(self._deadline_s):
                # The index comes first: a record that no list shows could not be revoked.
                await self._redis.sadd(key("keys", "ids"), key_.key_id)
                await self._redis.set(key(f"key:{key_.key_id}", "record"), text)
        self._found.pop(key_.key_id, None)


def read_record(text: bytes | str | None) -> ApiKey | None:
    """Return the key of a record in Redis; raise StoreUnavailable where it is damaged."""
    try:
        return None if text is None else ApiKey.read(json.loads(text))
    except (ValueError, TypeError, Misconfigured) as error:
        raise StoreUnavailable("a stored key cannot be read") from error
