"""Memory that glibc keeps for the process instead of returning it after every inference."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4


def keep_large_blocks() -> bool:
    """Let glibc keep freed memory; return False if the C library cannot.

    Call it in an entry point, before the first large allocation. Otherwise the page faults of
    buffers that are returned and fetched again can cost more than the model (docs/operations.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    choices = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 256 * 2**20}
    return all(mallopt(name, value) == 1 for name, value in choices.items())
