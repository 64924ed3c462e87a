"""What a stream tells of itself once a second, where it is asked to. Times are handed in."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NoReturn

from service.stream.flow import Flow
from service.stream.outbox import Outbox
from tamvt_client import wire

EVERY_S: Final = 1.0
RECENT_S: Final = 10.0
MOST_RECENT: Final = 2000  # frames


class StreamStatistics:
    """Counts what was answered: by how much time after it came, and what was dropped."""

    def __init__(self, now: float) -> None:
        self._told_s = now
        self._since = 0  # frames that were answered since then
        self._dropped = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=MOST_RECENT)  # when, seconds

    def answered(self, received_s: Sequence[float], now: float, *, dropped: int) -> None:
        """Count frames that came at these times and are answered now, and those passed over."""
        self._since += len(received_s)
        self._dropped += dropped
        self._recent.extend((now, now - came) for came in received_s)

    async def tell(self, outbox: Outbox, flow: Flow) -> NoReturn:
        """Put a message into the outbox once a second, until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            if outbox.is_writable:  # a slow reader gets its masks first
                outbox.put(self.write(time.perf_counter(), queue=flow.unanswered))

    def write(self, now: float, *, queue: int) -> str:
        """Return the message; `queue` is how many frames wait for their masks."""
        while self._recent and self._recent[0][0] < now - RECENT_S:
            self._recent.popleft()
        latencies = sorted(seconds * 1000 for _, seconds in self._recent)
        rate = self._since / max(now - self._told_s, 1e-6)
        self._told_s, self._since = now, 0
        return wire.write_stats(
            frames_per_s=round(rate, 2),
            latency_ms={
                name: round(latencies[int(share * (len(latencies) - 1))], 1)
                for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
                if latencies
            },
            dropped=self._dropped,
            queue=queue,
        )
