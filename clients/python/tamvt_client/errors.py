"""What the Python client raises.

ClientError
├── Unreachable        the service cannot be reached, or the connection broke, also when retried
├── TimedOut           no answer within the deadline; what was sent may have been done
├── UnexpectedResponse   something answered, but not this service
├── Replaced           another stream took the session over
└── ProblemResponse      the service said no; carries its `Problem`
    ├── Rejected       the request is at fault (4xx)
    ├── NotFound       a session that is unknown or expired, or a frame that is not there (404)
    ├── FrameConflict  another frame is due (409): carries the `expected` number
    ├── Busy           overload or a part is away, also when retried (503)
    └── ServiceFault   the service failed (other 5xx)
"""

from __future__ import annotations

from tamvt_client.messages import Problem

RATE_LIMITED = "/problems/rate-limited"  # the only 429 that passes by itself, and soon


class ClientError(Exception):
    """The root of what the client raises; its text is one line."""


class Unreachable(ClientError):
    """No connection, or one that broke, as often as it was tried."""


class TimedOut(ClientError):
    """No answer within the deadline."""


class UnexpectedResponse(ClientError):
    """An answer that is not of this API."""


class Replaced(ClientError):
    """Another stream took the session over."""


class ProblemResponse(ClientError):
    """The service answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title or f"status {problem.status}")
        self.problem = problem


class Rejected(ProblemResponse):
    """The request is at fault and changed nothing."""


class InvalidCredentials(Rejected):
    """The service asks for a valid key or token: pass `key` to the client."""


class NotFound(ProblemResponse):
    """What was asked for is unknown, deleted or expired."""


class FrameConflict(ProblemResponse):
    """The session is not where the request assumes: `expected` is the frame number it takes."""

    @property
    def expected(self) -> int | None:
        """The frame number the session takes next, where the service says so."""
        return self.problem.expected


class Busy(ProblemResponse):
    """The service cannot answer now; the same request may succeed later."""

    @property
    def retry_after_s(self) -> float:
        """Seconds that the service asks to wait, 0 if it does not say."""
        return self.problem.retry_after_s or 0.0


class ServiceFault(ProblemResponse):
    """The service failed."""


def make_problem_error(problem: Problem) -> ProblemResponse:
    """Return the error for a problem, by its status."""
    by_status: dict[int, type[ProblemResponse]] = {
        401: InvalidCredentials,
        404: NotFound,
        409: FrameConflict,
        503: Busy,
    }
    if problem.status == 409 and problem.expected is None:
        return Rejected(problem)  # a conflict of another kind: a full memory, for example
    if problem.type == RATE_LIMITED:
        return Busy(problem)
    fallback = ServiceFault if problem.status >= 500 else Rejected
    return by_status.get(problem.status, fallback)(problem)
