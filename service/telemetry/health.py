"""Whether this process is about to stop."""

from __future__ import annotations

from service.errors import Overloaded


class Health:
    """Readiness fails from the moment the service is told to stop, while it still works."""

    def __init__(self) -> None:
        self._closing = False

    def begin_closing(self) -> None:
        """Fail readiness from now on; what has begun is still served."""
        self._closing = True

    def check_open(self) -> None:
        """Raise Overloaded once the service is about to stop."""
        if self._closing:
            raise Overloaded("the service is shutting down")
