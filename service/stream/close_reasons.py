"""How a stream ends: the close code, its text, and the last message before it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from service.errors import TamvtError
from service.problems import describe_problem, find_kind
from service.stream.outbox import Message, SlowReader
from tamvt_client import wire

MAX_REASON: Final = 120  # bytes of a close frame's text

GOODBYE: Final = wire.write_bye(reason="shutdown", resume=True)
NORMAL, INTERNAL, RESTART, TRY_LATER = 1000, 1011, 1012, 1013
REPLACED, REFUSED = 4001, 4000  # a refusal closes with 4000 and its HTTP status


class Disconnected(Exception):
    """The client has closed the connection, or it broke."""


@dataclass(frozen=True, slots=True)
class CloseReason:
    """How a stream ends. With `flush`, messages that wait are sent before the last one."""

    code: int
    reason: str
    last: Message | None = None
    flush: bool = True
    problem: str = ""  # the name of the problem that ended it


def close_reason_of(error: TamvtError) -> CloseReason:
    """Return how an error closes the stream: it is sent, and its status makes the close code."""
    kind = find_kind(error)
    code = {500: INTERNAL, 503: TRY_LATER}.get(kind.status, REFUSED + kind.status)
    reason = str(error).encode()[:MAX_REASON].decode(errors="ignore")
    return CloseReason(code, reason, wire.write_error(describe_problem(error)), problem=kind.slug)


def close_reason_of_task(task: asyncio.Task[CloseReason]) -> CloseReason | None:
    """Return how the task that ended first closes the stream; None if the client disconnected."""
    try:
        return task.result()
    except Disconnected:
        return None
    except SlowReader:
        return CloseReason(TRY_LATER, "messages were not read in time", flush=False)
    except TamvtError as error:
        return close_reason_of(error)
