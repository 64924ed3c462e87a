"""Files in memory that the service shares with the process that decodes a video."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile


def make_files(video: bytes, room_bytes: int) -> list[int]:
    """Return descriptors of the video's bytes and, if wanted, of room for pictures."""
    files = [make_file("tamvt-video", content=video)]
    if room_bytes:
        files.append(make_file("tamvt-pictures", size=room_bytes))
    return files


def make_file(name: str, *, content: bytes = b"", size: int = 0) -> int:
    """Return the descriptor of a file in memory, of these bytes or of so many zeros.

    Its size is sealed: a process that cuts it short would otherwise end whoever reads it.
    """
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.truncate(size or len(content))
            file.seek(0)
            return os.dup(file.fileno())
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, size or len(content))
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor
