"""How long calls to what the service runs on took, and how many failed: Redis, Triton."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.trace import SpanKind, get_tracer

LIMITS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

tracer = get_tracer("tamvt")


@dataclass(slots=True)
class Durations:
    """How many calls took how long: a histogram."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LIMITS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one call."""
        self.counts[bisect_left(LIMITS_S, seconds)] += 1
        self.sum_s += seconds

    def add(self, others: Durations) -> None:
        """Count the calls of `others` as well."""
        self.counts = [
            mine + theirs for mine, theirs in zip(self.counts, others.counts, strict=True)
        ]
        self.sum_s += others.sum_s


class CallTimes:
    """The calls to one system, by operation. Each is a span of the trace that is current.

    What ends with an `aside` error has not failed: it is an answer like others.
    """

    def __init__(self, system: str, *, aside: type[Exception] | tuple[()] = ()) -> None:
        self.system = system
        self._aside = aside
        self.durations: defaultdict[str, Durations] = defaultdict(Durations)
        self.errors: Counter[str] = Counter()
        self._attributes: Mapping[str, str] = {"peer.service": system}

    @contextmanager
    def measure(self, operation: str) -> Iterator[None]:
        """Count the block as one call of this operation, and as an error if it raises."""
        began_s = time.perf_counter()
        with tracer.start_as_current_span(
            f"{self.system} {operation}", kind=SpanKind.CLIENT, attributes=self._attributes
        ):
            try:
                yield
            except self._aside:
                raise
            except Exception:
                self.errors[operation] += 1
                raise
            finally:
                self.durations[operation].observe(time.perf_counter() - began_s)
