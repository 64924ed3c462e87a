"""How the service logs: one line an event, in logfmt, on stderr."""

from __future__ import annotations

import logging


def configure_logging(level: str) -> None:
    """Log from this level on (`debug`, `info`, `warning`, `error`)."""
    logging.basicConfig(
        level=level.upper(),
        format="time=%(asctime)s level=%(levelname)s logger=%(name)s message=%(message)s",
    )
    # What a client sends wrongly is told to the client, not to the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
