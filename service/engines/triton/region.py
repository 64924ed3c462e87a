"""A region of POSIX shared memory that holds one session's bank: a file with a header, mapped.

Any process of this host may open it (decision 25). Only the process that holds its lock writes it
(flock: the kernel releases it when the process ends). Its header says which bank it holds, and is
dirty from before the first write until the bank is that of a committed session again. A dirty
region is never read, and never used for another bank: Triton may still write into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.core.memory import MAX_CAPACITY, Memory
from service.engines.triton.layout import HEADER_BYTES, Layout, TensorLocation

MAGIC = b"TAMVTBNK"
FORMAT = 1
# magic, format, dirty, version, bytes, weights, bank, age of each slot
HEADER = struct.Struct(f"<8sII qQ 32s32s {MAX_CAPACITY}i")
DIRTY = struct.Struct("<I")
DIRTY_OFFSET = 12
OWNER = slice(HEADER.size, HEADER.size + 8)  # the process that wrote it last


@dataclass(frozen=True, slots=True)
class RegionHeader:
    """Which bank a region holds."""

    version: int  # of the session
    nbytes: int  # of the whole region
    weights: bytes  # SHA-256 of the model's weights
    bank: bytes  # digest of the memory, the objects and their order, the shape
    ages: tuple[int, ...]  # by slot, -1 where it is empty

    def pack(self, *, dirty: bool) -> bytes:
        """Return the header's bytes in the region."""
        ages = (*self.ages, *[-1] * (MAX_CAPACITY - len(self.ages)))
        numbers = (self.version, self.nbytes, self.weights, self.bank, *ages)
        return HEADER.pack(MAGIC, FORMAT, int(dirty), *numbers)

    @classmethod
    def read(cls, data: bytes) -> RegionHeader | None:
        """Return the header of a region that may be used; None if it is dirty, or not ours."""
        if len(data) < HEADER.size:
            return None
        magic, number, dirty, version, nbytes, weights, bank, *ages = HEADER.unpack_from(data)
        if (magic, number, dirty) != (MAGIC, FORMAT, 0):
            return None
        return cls(version, nbytes, weights, bank, tuple(ages))


def make_header(
    memory: Memory,
    object_ids: Sequence[int],
    layout: Layout,
    *,
    version: int,
    weights_sha256: str,
) -> RegionHeader:
    """Return the header of a region that holds the bank of this memory."""
    bank = f"{memory.to_json()} {list(object_ids)} {layout.shape}".encode()
    return RegionHeader(
        version=version,
        nbytes=layout.nbytes,
        weights=bytes.fromhex(weights_sha256),
        bank=hashlib.sha256(bank).digest(),
        ages=(*memory.ages().tolist(), *[-1] * (MAX_CAPACITY - memory.capacity)),
    )


def is_ours(state: os.stat_result) -> bool:
    """Return whether a file belongs to the user that this process runs as."""
    return state.st_uid == os.geteuid() and stat.S_ISREG(state.st_mode)


class Region:
    """A region that this process has locked; `close` frees it for others."""

    def __init__(self, path: Path, descriptor: int, nbytes: int) -> None:
        self.path = path
        self.name = path.name  # Triton knows it by this name
        self.nbytes = nbytes
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, nbytes)

    @classmethod
    def create(cls, path: Path, nbytes: int) -> Region:
        """Create a region, locked and dirty, with all its memory allocated; raise OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # decision 25
            # Not ftruncate: touching a page that cannot be allocated later would kill the process.
            os.posix_fallocate(descriptor, 0, nbytes)
            region = cls(path, descriptor, nbytes)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        nothing = RegionHeader(0, nbytes, bytes(32), bytes(32), ())
        region._map[: HEADER.size] = nothing.pack(dirty=True)
        return region

    @classmethod
    def open(cls, path: Path) -> Region | None:
        """Open and lock the region at `path`; None if it is missing, empty, locked, or not ours.

        Another user could shorten it while it is mapped, which would end this process.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = os.fstat(descriptor)
            if state.st_nlink and state.st_size and is_ours(state):
                return cls(path, descriptor, state.st_size)
        except OSError:
            pass
        os.close(descriptor)
        return None

    def header(self) -> RegionHeader | None:
        """Return which bank it holds; None if none may be used, or if its size is wrong."""
        header = RegionHeader.read(self._map[: HEADER.size])
        return header if header and header.nbytes == self.nbytes else None

    def mark_dirty(self) -> None:
        """Say that the bank is in doubt from now on."""
        if self.nbytes >= HEADER_BYTES:
            self._map[DIRTY_OFFSET : DIRTY_OFFSET + DIRTY.size] = DIRTY.pack(1)

    @property
    def owner(self) -> bytes:
        """Return the process that wrote it last: 8 bytes."""
        return self._map[OWNER]

    def settle(self, header: RegionHeader, *, owner: bytes) -> None:
        """Say that it holds this bank, which is not written any more."""
        self._map[: HEADER.size] = header.pack(dirty=True)
        self._map[OWNER] = owner
        self._map[DIRTY_OFFSET : DIRTY_OFFSET + DIRTY.size] = DIRTY.pack(0)
        os.utime(self._descriptor)

    def array(self, location: TensorLocation) -> NDArray[Any]:
        """Return the tensor at a location: a view, to be dropped before the region is closed."""
        flat = np.frombuffer(
            self._map, location.dtype, count=int(np.prod(location.shape)), offset=location.offset
        )
        return flat.reshape(location.shape)

    def close(self) -> None:
        """Release the lock, the file and the mapping; a view that is left keeps the last two."""
        if self._descriptor >= 0:
            # A mapping holds a copy of the descriptor, and with it the lock.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1
            # Not left to the last reference: a cancelled clip's traceback holds one.
            with suppress(BufferError):
                self._map.close()

    def unlink(self) -> None:
        """Remove its file; its memory is freed with the last mapping, Triton's included."""
        self.path.unlink(missing_ok=True)
