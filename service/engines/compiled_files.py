"""Files that are dear to make again, such as compiled graphs, in a folder with a bound."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

DIGEST_BYTES: Final = 32


class CompiledFiles:
    """Files by key, each whole or absent; those used least recently make room.

    What is read here runs in this process. So the folder must be ours alone, and each file begins
    with its SHA-256. A folder that cannot be used is one that keeps nothing.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes

    def read(self, key: str) -> bytes | None:
        """Return what was written under this key; None if it is absent or damaged."""
        path = self._path(key)
        try:
            if not self._is_ours():
                return None
            sealed = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        data = sealed[DIGEST_BYTES:]
        return data if hashlib.sha256(data).digest() == sealed[:DIGEST_BYTES] else None

    def write(self, key: str, data: bytes) -> None:
        """Keep `data` under this key, if the folder lets us and it is within the limit."""
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_ours() or len(data) > self._limit_bytes:
                return
            handle, made = tempfile.mkstemp(dir=self._folder)
            try:
                with open(handle, "wb") as file:
                    file.write(hashlib.sha256(data).digest() + data)
                os.replace(made, self._path(key))
            except OSError:  # the disk may be full: what is there of it must not stay
                os.unlink(made)
                raise
            self._drop_oldest()

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()[:32]

    def _is_ours(self) -> bool:
        found = self._folder.stat()
        return found.st_uid == os.geteuid() and not found.st_mode & 0o022

    def _drop_oldest(self) -> None:
        """Remove those used least recently until the rest is within the limit."""
        found = [(path.stat(), path) for path in self._folder.iterdir() if path.is_file()]
        total = sum(stat.st_size for stat, _ in found)
        for stat, path in sorted(found, key=lambda each: each[0].st_mtime_ns):
            if total <= self._limit_bytes:
                break
            path.unlink(missing_ok=True)
            total -= stat.st_size
