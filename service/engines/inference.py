"""What a runtime gives: graphs that run on arrays, and runs that another thread can stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from numpy.typing import NDArray

from service.errors import EngineUnavailable


class Graph(Protocol):
    """One graph, ready to run in any thread."""

    def run(self, inputs: Mapping[str, NDArray[Any]], inference: Inference) -> dict[str, Any]:
        """Return the outputs by name; raise EngineUnavailable if the runtime fails or stops."""
        ...


class Inference:
    """The runs of one piece of work, which can be stopped at the next node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._cancel: Callable[[], object] | None = None  # of the run that is under way

    def stop(self) -> None:
        """Stop what runs, and let nothing more of it begin; from any thread."""
        with self._lock:
            self._stopped = True
            if self._cancel is not None:
                self._cancel()

    @contextmanager
    def stoppable(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Stop what runs in the block by `cancel`; raise EngineUnavailable if it is too late."""
        with self._lock:
            if self._stopped:
                raise EngineUnavailable("the clip was given up")
            self._cancel = cancel
        try:
            yield
        finally:
            with self._lock:
                self._cancel = None

    def __call__(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Return the graph's outputs by name; raise EngineUnavailable if it fails or stops."""
        return graph.run(inputs, self)
