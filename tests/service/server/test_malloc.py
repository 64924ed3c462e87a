"""Large blocks stay with the process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, sys
import numpy as np
from service.server.malloc import keep_large_blocks
assert keep_large_blocks()
def touch():
    np.ones(16 * 2**20, np.uint8)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_buffer_that_is_used_again_causes_no_page_faults() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(answer.stdout) < 100  # 20 x 4096 pages otherwise
