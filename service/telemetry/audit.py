"""The audit log: who made or ended a key, deleted something, or was denied.

Its lines are the log's, of the logger `service.audit`, whatever `TAMVT_LOG_LEVEL` is. They carry
the request's id, tenant and trace like all others, and never a key or a token.
"""

from __future__ import annotations

import logging
from typing import Final

SESSION_CHARACTERS: Final = 8  # of an id: they find it, and do not give the right to use it

log = logging.getLogger("service.audit")
log.setLevel(logging.INFO)


def audit(event: str, **facts: str) -> None:
    """Log an event, such as `key.created`, with its facts: names, never keys or masks."""
    log.info(event, extra={"fields": facts, "every": True})


def audit_denial(reason: str, **facts: str) -> None:
    """Log that somebody was denied.

    Anybody can be, as often as they like: a few are written a minute, by reason, and the others
    are counted. All other events are written.
    """
    more = {"fields": {"reason": reason, **facts}, "kind": reason, "every": False}
    log.info("access.denied", extra=more)


def shorten_session(session_id: str) -> str:
    """Return the part of a session's id that logs and traces tell."""
    return session_id[:SESSION_CHARACTERS]
