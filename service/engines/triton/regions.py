"""All regions of this host: found by session, bounded in bytes, dropped when nobody needs them.

Any gateway process of the host may use, or drop, any region that no other has locked. A region is
dropped in two steps: Triton forgets it, which it refuses while a request still uses it, and then
its file is removed. What cannot be dropped yet is left dirty, which no one reads, and tried again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from service.engines.triton.region import Region, RegionHeader
from service.errors import EngineUnavailable, Overloaded

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "tamvt-bank"
NEWBORN_S = 60.0  # a file that is still empty is being made, or its maker was killed


class NoSharedMemory(Exception):
    """Shared memory is used up, or Triton does not take it: tensors go inline instead."""


class RegionRegistry(Protocol):
    """Triton's list of regions."""

    async def register(self, name: str, nbytes: int) -> None:
        """Triton may use the region; NoSharedMemory if it refuses, EngineUnavailable."""
        ...

    async def forget(self, name: str) -> bool:
        """Whether Triton does not have the region any more; EngineUnavailable."""
        ...

    async def names(self) -> tuple[str, ...]:
        """The regions that Triton has; EngineUnavailable."""
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
    ) -> None:
        self._registry = registry
        self._limit_bytes = limit_bytes
        self._idle_s = idle_s
        self._folder, self._prefix = folder, prefix
        self._freeing = asyncio.Lock()
        self.doomed: set[str] = set()  # by name: to be dropped once Triton lets them go

    def holding(self, session_id: str) -> Iterator[Region]:
        """The session's regions that nobody else holds, locked; the caller closes each."""
        for path in self._folder.glob(f"{self._prefix}-{_digest(session_id)}-*"):
            if path.name not in self.doomed and (region := Region.open(path)):
                yield region

    async def create(self, session_id: str, nbytes: int) -> Region:
        """A new region, dirty, known to Triton; NoSharedMemory, Overloaded, EngineUnavailable.

        The regions used least recently make room for it.
        """
        name = f"{self._prefix}-{_digest(session_id)}-{secrets.token_hex(4)}"
        async with self._freeing:
            await self._free_bytes(nbytes)
            region = await self._made(self._folder / name, nbytes)
        try:
            await self._registry.register(region.name, nbytes)
        except BaseException:
            await self.drop(region)
            raise
        return region

    async def _made(self, path: Path, nbytes: int) -> Region:
        """A new region; if nobody waits for it any more, it is doomed."""
        making = asyncio.ensure_future(asyncio.to_thread(Region.create, path, nbytes))
        try:
            return await asyncio.shield(making)
        except OSError as error:
            raise NoSharedMemory(f"no {nbytes} bytes of shared memory: {error}") from error
        except asyncio.CancelledError:
            # The thread goes on: what it makes would stay locked by this process.
            await asyncio.wait([making])
            if making.exception() is None:
                self.schedule_removal(making.result())
            raise

    async def drop(self, region: Region) -> None:
        """The region is gone, or doomed: its lock is given back in any case."""
        region.mark_dirty()
        try:
            gone = await self._registry.forget(region.name)
        except EngineUnavailable:
            gone = False
        finally:
            self.doomed.add(region.name)
            region.close()
        if gone:
            region.unlink()
            self.doomed.discard(region.name)

    def schedule_removal(self, region: Region) -> None:
        """The region is dirty: it will be dropped once Triton lets it go."""
        region.mark_dirty()
        self.doomed.add(region.name)
        region.close()

    async def discard(self, session_id: str) -> None:
        """The session's regions that nobody holds are gone, or doomed."""
        for region in self.holding(session_id):
            await self.drop(region)

    async def remove_scheduled(self) -> None:
        """Those of the doomed that Triton lets go are gone; EngineUnavailable."""
        for name in tuple(self.doomed):
            region = Region.open(self._folder / name)
            if region is not None:
                await self.drop(region)
            elif not (self._folder / name).exists():
                self.doomed.discard(name)

    async def drop_owned(self, owner: bytes) -> None:
        """The regions that a process wrote last, and the doomed, are gone: it ends.

        What Triton still uses or cannot be asked about loses its file; the next sweep of any
        process takes it off Triton's list.
        """
        for file in self._files():
            region = Region.open(file.path) if file.nbytes else None
            if region is None:
                continue
            if region.owner == owner or region.name in self.doomed:
                await self.drop(region)
                region.unlink()
            region.close()

    async def sweep(self, *, weights_sha256: str) -> None:
        """Whatever is of no use to any process is gone; EngineUnavailable.

        That is: dirty, damaged, of other weights, or not used for long; and in Triton's list,
        names whose file is gone.
        """
        for file in self._files():
            await self._sweep(file, weights=bytes.fromhex(weights_sha256))
        for name in await self._registry.names():
            if name.startswith(f"{self._prefix}-") and not (self._folder / name).exists():
                await self._registry.forget(name)

    async def _sweep(self, file: _File, *, weights: bytes) -> None:
        idle_s = time.time() - file.used_at
        if not file.nbytes:
            if idle_s > NEWBORN_S:
                file.path.unlink(missing_ok=True)
            return
        region = Region.open(file.path)
        if region is None:
            return
        header: RegionHeader | None = region.header()
        if header is None or header.weights != weights or idle_s > self._idle_s:
            await self.drop(region)
        else:
            region.close()

    async def _free_bytes(self, nbytes: int) -> None:
        """Drop what was used least recently; Overloaded while the rest is in use."""
        files = sorted(self._files(), key=lambda file: file.used_at)
        taken = sum(file.nbytes for file in files)
        for file in files:
            if taken + nbytes <= self._limit_bytes:
                return
            region = Region.open(file.path)
            if region is not None:
                await self.drop(region)
                taken -= 0 if file.path.exists() else file.nbytes
        # A bank that is larger than the limit by itself is let in alone.
        if taken and taken + nbytes > self._limit_bytes:
            raise Overloaded("all memory for banks is in use")

    def _files(self) -> Iterator[_File]:
        for path in self._folder.glob(f"{self._prefix}-*"):
            try:
                state = os.stat(path)
            except FileNotFoundError:  # another process was quicker
                continue
            yield _File(path, state.st_size, state.st_mtime)


def _digest(session_id: str) -> str:
    """A session's part of a file name: of fixed length, and no one's secret."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:16]
