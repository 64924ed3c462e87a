"""How much is worked on at once: requests and their bytes are counted, the next one is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import Overloaded, PayloadTooLarge


class Admission:
    """Counts the requests in flight and the bytes they hold. It never lets anybody wait."""

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self.requests = 0
        self.held_bytes = 0

    @contextmanager
    def admit(self) -> Iterator[Reservation]:
        """Count one more request for the block; raise Overloaded where that is too many."""
        if self.requests >= self._max_requests:
            raise Overloaded(f"{self._max_requests} requests are being worked on; try again")
        self.requests += 1
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.requests -= 1
            self.held_bytes -= reservation.size

    @contextmanager
    def reservation(self) -> Iterator[Reservation]:
        """Count bytes, but no request, for the block; all are given back at its end."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            reservation.give(reservation.size)

    def take(self, reservation: Reservation, *, size: int) -> None:
        """Add `size` bytes to what a request holds; raise and add none where that is too much."""
        if reservation.size + size > self._max_bytes:
            raise PayloadTooLarge(
                f"a request may hold {self._max_bytes} bytes", limit=self._max_bytes
            )
        if self.held_bytes + size > self._max_bytes:
            raise Overloaded(f"uploads hold {self.held_bytes} bytes already; try again")
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
