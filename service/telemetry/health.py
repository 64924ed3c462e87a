"""Whether this process may be given work: it is not about to stop, and its canaries live."""

from __future__ import annotations

from service.errors import EngineUnavailable, Overloaded


class Health:
    """Readiness fails from the moment the service is told to stop, while it still works.

    It also fails while an engine's answers are known to be wrong.
    """

    def __init__(self) -> None:
        self._closing = False
        self._wrong: dict[str, str] = {}  # why, by model

    def begin_closing(self) -> None:
        """Fail readiness from now on; what has begun is still served."""
        self._closing = True

    def report(self, model: str, reason: str) -> None:
        """Tell why a model's answers are wrong; an empty reason says that they are right."""
        self._wrong[model] = reason

    def check_open(self) -> None:
        """Raise Overloaded once the service stops, EngineUnavailable if a model is wrong."""
        if self._closing:
            raise Overloaded("the service is shutting down")
        for reason in filter(None, self._wrong.values()):
            raise EngineUnavailable(reason)
