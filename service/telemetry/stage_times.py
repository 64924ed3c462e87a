"""How long each stage of an append, or of a stream's frame, took."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

Stage = Literal["receive", "queue", "store", "decode", "inference", "encode"]


class StageTimes:
    """Seconds by stage, as the client waited for them: they add up to the whole time.

    What runs at the same time costs nothing here: masks that are encoded during the next clip's
    inference count as inference. Times are those of `time.perf_counter`.
    """

    def __init__(self, *, began_s: float | None = None) -> None:
        self._began_s = time.perf_counter() if began_s is None else began_s
        self._ends: list[tuple[Stage, float]] = []
        self.batch_sizes: list[int] = []  # of each clip: how many the model ran together

    def __bool__(self) -> bool:
        return bool(self._ends)

    def end(self, stage: Stage, *, at_s: float | None = None) -> None:
        """Count the time since the last end as this stage's."""
        self._ends.append((stage, time.perf_counter() if at_s is None else at_s))

    def extend(self, later: StageTimes) -> None:
        """Go on with the stages of `later`; its own beginning does not count."""
        self._ends += later._ends
        self.batch_sizes += later.batch_sizes

    @property
    def seconds(self) -> Mapping[Stage, float]:
        """Seconds by stage, in the order in which the stages first ended."""
        found: defaultdict[Stage, float] = defaultdict(float)
        last_s = self._began_s
        for stage, at_s in self._ends:
            found[stage] += at_s - last_s
            last_s = at_s
        return found

    def milliseconds(self) -> dict[str, float]:
        """Return milliseconds by stage, and their total, each as `<stage>_ms`."""
        found = {f"{stage}_ms": 1000 * seconds for stage, seconds in self.seconds.items()}
        found["total_ms"] = sum(found.values())
        return {name: round(spent_ms, 3) for name, spent_ms in found.items()}
