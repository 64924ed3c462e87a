"""How long each stage of a request took."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping


class Stopwatch:
    """Seconds by stage, as the request waited for them: they add up to its whole time.

    What runs meanwhile costs nothing here: masks that are encoded during the next clip's
    inference count as inference.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()
        self.batch_sizes: list[int] = []  # of each clip: how many the model ran together

    def lap(self, stage: str) -> None:
        """The time since the last lap was this stage's."""
        now = time.perf_counter()
        self._seconds[stage] += now - self._last
        self._last = now

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds by stage."""
        return self._seconds

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds by stage, and their total, each as `<stage>_ms`."""
        stages = {**self._seconds, "total": sum(self._seconds.values())}
        return {f"{stage}_ms": round(1000 * seconds, 3) for stage, seconds in stages.items()}
