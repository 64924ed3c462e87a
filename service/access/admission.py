"""How much is worked on at once: requests and their bytes are counted, the next one is refused.

Bytes are counted as a body arrives, and again for what is made of it. A place is taken once the
body is complete, so that slow bodies keep nobody out; one holder (a tenant, or a peer) has at most
half of the places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import Overloaded, PayloadTooLarge


class Admission:
    """Counts the requests in flight and the bytes they hold. It never lets anybody wait."""

    def __init__(self, *, max_requests: int, max_bytes: int, max_queue_s: float = 0.0) -> None:
        self._max_queue_s = max_queue_s
        self._max_requests = max_requests
        self._max_share = (max_requests + 1) // 2
        self._max_bytes = max_bytes
        self._requests: Counter[str] = Counter()  # by holder
        self.held_bytes = 0

    @property
    def requests(self) -> int:
        """How many places are taken."""
        return self._requests.total()

    def check_place(self, holder: str) -> None:
        """Raise Overloaded where there is no place left, or none for this holder."""
        if self.requests >= self._max_requests:
            raise Overloaded(f"{self._max_requests} requests are being worked on; try again")
        if self._requests[holder] >= self._max_share:
            raise Overloaded(
                f"{self._max_share} requests of yours are being worked on, half of all; try again"
            )

    def check_queue(self, queue_s: float) -> None:
        """Raise Overloaded for what begins anew while a tenant's clips wait `queue_s` seconds.

        Sessions that are under way go on: they come before new ones.
        """
        if self._max_queue_s and queue_s > self._max_queue_s:
            raise Overloaded(
                f"your clips wait {queue_s:.1f} s for the model, more than the "
                f"{self._max_queue_s:g} s up to which sessions are started; try again",
                retry_after_s=max(1.0, queue_s),
            )

    @contextmanager
    def admit(self, holder: str) -> Iterator[None]:
        """Take a place for the block; raise Overloaded where there is none."""
        self.check_place(holder)
        self._requests[holder] += 1
        try:
            yield
        finally:
            self._requests[holder] -= 1
            self._requests += Counter()  # drops those who hold none

    @contextmanager
    def reservation(self) -> Iterator[Reservation]:
        """Count bytes for the block; all are given back at its end."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            reservation.give(reservation.size)

    def take(self, reservation: Reservation, *, size: int) -> None:
        """Add `size` bytes to what a request holds; raise and add none where that is too much."""
        if reservation.size + size > self._max_bytes:
            raise PayloadTooLarge(
                f"a request may hold {self._max_bytes} bytes, what is made of it included; "
                f"this one needs {reservation.size + size}: send smaller pictures, or raise "
                "TAMVT_MAX_REQUEST_BYTES",
                limit=self._max_bytes,
            )
        if self.held_bytes + size > self._max_bytes:
            raise Overloaded(f"requests hold {self.held_bytes} bytes already; try again")
        self.held_bytes += size
        reservation.size += size


class Reservation:
    """The bytes that one request or stream holds."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.size = 0

    def take(self, size: int) -> None:
        """Count `size` bytes more; raise PayloadTooLarge or Overloaded where that is too much."""
        self._admission.take(self, size=size)

    def give(self, size: int) -> None:
        """Count `size` bytes less."""
        self._admission.held_bytes -= size
        self.size -= size

    @contextmanager
    def count(self, size: int) -> Iterator[None]:
        """Count `size` bytes more for the block; raise as `take` does."""
        self.take(size)
        try:
            yield
        finally:
            self.give(size)
