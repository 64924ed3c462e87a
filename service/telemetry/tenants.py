"""What each tenant has had of this process lately, under a bounded number of names."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

MOST_TENANTS: Final = 100  # with a name of their own in the metrics
OTHERS: Final = "other"
ACTIVE_S: Final = 60.0
MOST_SESSIONS: Final = 10_000


class TenantActivity:
    """Names tenants in metrics, and knows whose sessions were tracked within the last minute."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._labels: dict[str, str] = {}
        self._active: OrderedDict[str, tuple[str, float]] = OrderedDict()  # oldest first

    def label(self, tenant: str) -> str:
        """Return the tenant's name in the metrics: those beyond `MOST_TENANTS` share one."""
        if tenant not in self._labels:
            if len(self._labels) >= MOST_TENANTS:
                return OTHERS
            self._labels[tenant] = tenant
        return tenant

    def see(self, session_id: str, tenant: str) -> None:
        """Take the session for active from now on."""
        self._active[session_id] = (self.label(tenant), self._clock())
        self._active.move_to_end(session_id)
        if len(self._active) > MOST_SESSIONS:
            self._active.popitem(last=False)

    def active_sessions(self) -> Mapping[str, int]:
        """Return how many sessions are active, by the tenant's name in the metrics."""
        now = self._clock()
        while self._active and now - next(iter(self._active.values()))[1] > ACTIVE_S:
            self._active.popitem(last=False)
        found = Counter(label for label, _ in self._active.values())
        return {label: found[label] for label in (*self._labels, OTHERS) if label in found}
