"""How the service logs: one line an event on stderr, in logfmt or JSON; seldom of one kind.

Code logs with `logging`. structlog writes the lines, with what is known of the request that a line
belongs to: its id, tenant, session and trace. `fields` of a record are further ones of its own.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import sys
import threading
import time
from typing import Final, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["logfmt", "json"]

UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
FIRST_FIELDS: Final = ("time", "level", "logger", "message")
LINES_A_MINUTE: Final = 20  # of one kind
MINUTE_S: Final = 60.0
LINE_BYTES: Final = 500  # of a library's own line
READ_BYTES: Final = 65_536
STDERR: Final = 2  # its file descriptor

native = logging.getLogger("service.native")


def configure_logging(level: str, *, log_format: LogFormat = "logfmt") -> None:
    """Log from this level on (`debug`, `info`, `warning`, `error`)."""
    handler = logging.StreamHandler()
    handler.addFilter(Seldom())
    handler.setFormatter(line_formatter(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # What a client sends wrongly is told to the client, not to the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def line_formatter(log_format: LogFormat) -> logging.Formatter:
    """Return what makes one line of a record: of its fields, and of those of its request."""
    write: Processor = structlog.processors.LogfmtRenderer(
        key_order=FIRST_FIELDS, drop_missing=True, bool_as_flag=False
    )
    if log_format == "json":
        write = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", key="time"),
            add_fields,
            structlog.processors.format_exc_info,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.EventRenamer("message"),
            replace_unprintable,
            write,
        ],
    )


def add_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add a record's traceback and fields to what is written of it: a step of structlog's."""
    record = event["_record"]
    if record.exc_info:
        event["exc_info"] = record.exc_info
    return {**event, **getattr(record, "fields", {})}


def replace_unprintable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace what a terminal would obey, in whatever a client may have said: a step too."""
    return {
        name: UNPRINTABLE.sub("?", value) if isinstance(value, str) else value
        for name, value in event.items()
    }


class Seldom(logging.Filter):
    """Passes so many lines a minute of each kind, and counts those it leaves out.

    Otherwise whoever can cause a line can fill the disk with it. A kind is a place in the code, and
    the record's `kind` where it has one; a record with `every` always passes.
    """

    def __init__(self, *, lines: int = LINES_A_MINUTE, within_s: float = MINUTE_S) -> None:
        super().__init__()
        self._lines, self._within_s = lines, within_s
        self._counting = threading.Lock()
        self._since: dict[
            tuple[str, int, str], tuple[float, int]
        ] = {}  # when counting began, and so far

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written; the first of a minute says how many were not."""
        if getattr(record, "every", False):
            return True
        place = (record.pathname, record.lineno, getattr(record, "kind", ""))
        now = time.monotonic()
        with self._counting:
            begin, count = self._since.get(place, (now, 0))
            if now - begin < self._within_s:
                self._since[place] = (begin, count + 1)
                return count < self._lines
            self._since[place] = (now, 1)
        if count > self._lines:
            left_out = count - self._lines
            record.msg = f"{record.getMessage()} ({left_out} more like it were left out)"
            record.args = ()
        return True


def catch_native_output() -> None:
    """Log what libraries in C write to stderr by themselves, as decoders do about bad pictures.

    Call it once in a process, before `configure_logging`: Python's own stderr stays where it was.
    """
    sys.stderr = os.fdopen(
        os.dup(STDERR), "w", buffering=1, encoding="utf-8", errors="backslashreplace"
    )
    # What a library writes while the process dies of it is lost: this tells where it was.
    faulthandler.enable(file=sys.stderr)
    read_end, write_end = os.pipe()
    os.dup2(write_end, STDERR)
    os.close(write_end)
    threading.Thread(target=_log_lines, args=(read_end,), name="native-output", daemon=True).start()


def _log_lines(read_end: int) -> None:
    # No file object: a daemon's lock on one may be held while the interpreter ends.
    rest = b""
    while data := os.read(read_end, READ_BYTES):
        *lines, rest = (rest[:LINE_BYTES] + data).split(b"\n")
        for line in lines:
            native.info("%s", line[:LINE_BYTES].decode(errors="replace").strip())
