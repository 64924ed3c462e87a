"""All regions of this host: found by session, bounded in bytes, dropped when they are of no use.

Any gateway process of the host may use, or drop, any region that is not locked (decision 25). A
region is dropped in two steps: Triton forgets it, which it refuses while a request still uses it
(decision 26), and then its file is removed. A region that cannot be dropped yet is left dirty, so
that it is not read, and its removal is scheduled.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from service.engines.triton.region import Region, is_ours
from service.errors import EngineUnavailable, Overloaded

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "tamvt-bank"
EMPTY_S = 60.0  # an empty file is being created, or its process was killed


class NoSharedMemory(Exception):
    """Shared memory is used up, or Triton does not take it: tensors are sent inline instead."""


class RegionRegistry(Protocol):
    """Triton's list of regions."""

    async def register(self, name: str, nbytes: int) -> None:
        """Let Triton use the region; raise NoSharedMemory if it refuses, EngineUnavailable."""
        ...

    async def forget(self, name: str) -> bool:
        """Return whether Triton no longer has the region; raise EngineUnavailable."""
        ...

    async def names(self) -> tuple[str, ...]:
        """Return the regions that Triton has; raise EngineUnavailable."""
        ...


class _File(NamedTuple):
    path: Path
    nbytes: int
    used_at: float


class Regions:
    """The regions of one host as one process sees them."""

    def __init__(
        self,
        registry: RegionRegistry,
        *,
        limit_bytes: int,
        idle_s: float,
        folder: Path = SHARED_MEMORY,
        prefix: str = PREFIX,
        freeing: asyncio.Lock | None = None,
    ) -> None:
        """See regions through `registry`; those of one process share `freeing`."""
        self._registry = registry
        self._limit_bytes = limit_bytes
        self._idle_s = idle_s
        self._folder, self._prefix = folder, prefix
        self._freeing = freeing or asyncio.Lock()
        self.scheduled: set[str] = set()  # names of regions to remove once Triton forgets them

    @property
    def nbytes(self) -> int:
        """Return the bytes of all regions of this host."""
        return sum(file.nbytes for file in self._files())

    def holding(self, session_id: str) -> Iterator[Region]:
        """Yield the session's regions that were free, locked now; the caller closes each."""
        for path in self._folder.glob(f"{self._prefix}-{_digest(session_id)}-*"):
            if path.name not in self.scheduled and (region := Region.open(path)):
                yield region

    async def create(self, session_id: str, nbytes: int) -> Region:
        """Create a region, dirty and registered with Triton.

        The regions used least recently are dropped for it. Raise NoSharedMemory, Overloaded,
        EngineUnavailable.
        """
        name = f"{self._prefix}-{_digest(session_id)}-{secrets.token_hex(4)}"
        async with self._freeing:
            await self._free_bytes(nbytes)
            region = await self._create_file(self._folder / name, nbytes)
        try:
            await self._registry.register(region.name, nbytes)
        except BaseException:
            await self.drop(region)
            raise
        return region

    async def _create_file(self, path: Path, nbytes: int) -> Region:
        """Create a region in a thread; schedule its removal if the call is cancelled."""
        making = asyncio.ensure_future(asyncio.to_thread(Region.create, path, nbytes))
        try:
            return await asyncio.shield(making)
        except OSError as error:
            raise NoSharedMemory(f"no {nbytes} bytes of shared memory: {error}") from error
        except asyncio.CancelledError:
            # The thread goes on: its region would stay locked by this process.
            await asyncio.wait([making])
            if making.exception() is None:
                self.schedule_removal(making.result())
            raise

    async def drop(self, region: Region) -> None:
        """Remove the region, or schedule that if Triton still has it; release its lock."""
        region.mark_dirty()
        try:
            is_forgotten = await self._registry.forget(region.name)
        except EngineUnavailable:
            is_forgotten = False
        finally:
            self.scheduled.add(region.name)
            region.close()
        if is_forgotten:
            region.unlink()
            self.scheduled.discard(region.name)

    def schedule_removal(self, region: Region) -> None:
        """Mark the region dirty and drop it later, once Triton has forgotten it."""
        region.mark_dirty()
        self.scheduled.add(region.name)
        region.close()

    async def discard(self, session_id: str) -> None:
        """Drop the session's regions that are not locked."""
        for region in self.holding(session_id):
            await self.drop(region)

    async def remove_scheduled(self) -> None:
        """Drop the scheduled regions that Triton forgets now; raise EngineUnavailable."""
        for name in tuple(self.scheduled):
            region = Region.open(self._folder / name)
            if region is not None:
                await self.drop(region)
            elif not (self._folder / name).exists():
                self.scheduled.discard(name)

    async def drop_owned(self, owner: bytes) -> None:
        """Drop the regions that an ending process wrote last, and the scheduled ones.

        The file is removed even if Triton still uses the region or does not answer; the next sweep
        of any process takes it off Triton's list.
        """
        for file in self._files():
            region = Region.open(file.path) if file.nbytes else None
            if region is None:
                continue
            if region.owner == owner or region.name in self.scheduled:
                await self.drop(region)
                region.unlink()
            region.close()

    async def sweep(self, *, weights_sha256: Collection[str]) -> None:
        """Drop all regions that are of no use to any process; raise EngineUnavailable.

        These are dirty, damaged, of weights not among these, or not used for long. Names whose
        file is missing are taken off Triton's list.
        """
        served = {bytes.fromhex(digest) for digest in weights_sha256}
        for file in self._files():
            idle_s = time.time() - file.used_at
            if not file.nbytes and idle_s > EMPTY_S:
                file.path.unlink(missing_ok=True)
            region = Region.open(file.path) if file.nbytes else None
            if region is None:
                continue
            header = region.header()
            is_of_use = header is not None and header.weights in served
            if is_of_use and idle_s <= self._idle_s:
                region.close()
            else:
                await self.drop(region)
        for name in await self._registry.names():
            if name.startswith(f"{self._prefix}-") and not (self._folder / name).exists():
                await self._registry.forget(name)

    async def _free_bytes(self, nbytes: int) -> None:
        """Drop regions, least recently used first; raise Overloaded if the rest is in use."""
        files = sorted(self._files(), key=lambda file: file.used_at)
        taken = sum(file.nbytes for file in files)
        for file in files:
            if taken + nbytes <= self._limit_bytes:
                return
            region = Region.open(file.path)
            if region is not None:
                await self.drop(region)
                taken -= 0 if file.path.exists() else file.nbytes
        # A bank that is larger than the limit is admitted if it is the only one.
        if taken and taken + nbytes > self._limit_bytes:
            raise Overloaded("all memory for banks is in use")

    def _files(self) -> Iterator[_File]:
        for path in self._folder.glob(f"{self._prefix}-*"):
            try:
                state = os.lstat(path)
            except FileNotFoundError:  # another process was quicker
                continue
            if is_ours(state):
                yield _File(path, state.st_size, state.st_mtime)


def _digest(session_id: str) -> str:
    """Return a session's part of a file name: of fixed length, and it does not tell the id."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:16]
