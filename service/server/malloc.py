"""Large blocks stay with the process: glibc otherwise returns them after every inference."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4


def keep_large_blocks() -> bool:
    """True if glibc will keep freed memory; False where the C library offers no such choice.

    Call it in an entry point, before the first large allocation. Page faults of returned and
    refetched buffers can otherwise cost more than the model (docs/operations.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    choices = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 256 * 2**20}
    return all(mallopt(name, value) == 1 for name, value in choices.items())
