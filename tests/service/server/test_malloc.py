"""Large blocks stay with the process, and free pages between blocks go back once in a while."""

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


FRAGMENTS = """
import asyncio
import numpy as np
from service.commands.process_figures import read_resident_mb
from service.server.malloc import keep_large_blocks, return_free_memory
import os
assert keep_large_blocks()
blocks = [np.ones(2**18, np.uint8) for _ in range(400)]
held = [bytes(block[:600]) for block in blocks[::4]]
blocks = blocks[::20]  # what stays lies between what is free
before = read_resident_mb(os.getpid())
async def wait():
    async with return_free_memory(every_s=0.02):
        for _ in range(500):
            await asyncio.sleep(0.02)
            if read_resident_mb(os.getpid()) < before - 50:
                return True
    return False
print(asyncio.run(wait()))
"""


def test_free_pages_between_blocks_go_back() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", FRAGMENTS], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "True"
