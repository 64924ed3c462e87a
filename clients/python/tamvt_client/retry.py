"""How often and how patiently the client sends again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from tamvt_client.errors import Busy


@dataclass(frozen=True, slots=True)
class Retry:
    """At most `attempts`, and between two of them full jitter below a doubling bound."""

    attempts: int = 6
    first_s: float = 0.1
    most_s: float = 5.0

    def retrying(self, may_retry: Callable[[BaseException], bool]) -> AsyncRetrying:
        """Return tenacity's loop, which raises the last error as it is."""
        return AsyncRetrying(
            stop=stop_after_attempt(self.attempts),
            wait=self.wait_s,
            retry=retry_if_exception(may_retry),
            reraise=True,
        )

    def wait_s(self, state: RetryCallState) -> float:
        """Return the seconds to wait after an attempt, at least what a busy service asks for."""
        error = state.outcome.exception() if state.outcome is not None else None
        at_least_s = error.retry_after_s if isinstance(error, Busy) else 0.0
        return at_least_s + wait_random_exponential(self.first_s, max=self.most_s)(state)
