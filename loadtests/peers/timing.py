"""Time a tracker frame by frame, as asked on standard input, in the tracker's own environment.

    python -m loadtests.peers.timing FOLDER MODULE:FACTORY THREADS [WORD...]

FOLDER holds `frames.npy` (uint8 RGB, F x H x W x 3) and `labels.npy` (uint8 object ids of the
first frame, H x W). The factory gets frames, labels, threads and the further words; it returns what
tracks one frame (H x W x 3) and is called for each. Every line that is read is a number of frames;
it is answered by milliseconds and milliseconds of processor time for one. NumPy alone is needed.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

Step = Callable[[Any], object]


def main() -> None:
    """Time as long as somebody asks."""
    answers, sys.stdout = sys.stdout, sys.stderr  # a tracker may print
    folder, name, threads, *words = sys.argv[1:]
    frames, labels = (np.load(Path(folder) / f"{each}.npy") for each in ("frames", "labels"))
    module, _, factory = name.partition(":")
    step: Step = getattr(importlib.import_module(module), factory)(
        frames, labels, int(threads), *words
    )
    source = cycle(frames[1:])
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        count = int(line)
        begin_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(count):
            step(next(source))
        ms = 1000 * (time.perf_counter() - begin_s) / count
        cpu_ms = 1000 * (time.process_time() - cpu_s) / count
        print(json.dumps({"ms": ms, "cpu_ms": cpu_ms}), file=answers, flush=True)


if __name__ == "__main__":
    main()
