"""The audit log: keys made and revoked, sessions deleted, access denied. One line an event."""

from __future__ import annotations

import logging

log = logging.getLogger("tamvt.audit")


def audit(event: str, **facts: str) -> None:
    """Log an event, such as `access.denied`, with its facts: names, never keys or masks."""
    written = " ".join(f"{name}={value!r}" for name, value in facts.items())
    log.info("%s %s", event, written)
