"""How the service logs: one line an event, in logfmt, on stderr; each kind a few times a minute."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from typing import Final

FORMAT: Final = "time=%(asctime)s level=%(levelname)s logger=%(name)s message=%(message)s"
LINES_A_MINUTE: Final = 20  # of one kind
MINUTE_S: Final = 60.0
LINE_BYTES: Final = 500  # of a library's own line
READ_BYTES: Final = 65_536
STDERR: Final = 2  # its file descriptor

native = logging.getLogger("service.native")


def configure_logging(level: str) -> None:
    """Log from this level on (`debug`, `info`, `warning`, `error`)."""
    handler = logging.StreamHandler()
    handler.addFilter(Seldom())
    logging.basicConfig(level=level.upper(), format=FORMAT, handlers=[handler])
    # What a client sends wrongly is told to the client, not to the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


class Seldom(logging.Filter):
    """Passes so many lines a minute of each place in the code, and counts those it leaves out.

    Otherwise whoever can cause a line can fill the disk with it.
    """

    def __init__(self, *, lines: int = LINES_A_MINUTE, within_s: float = MINUTE_S) -> None:
        super().__init__()
        self._lines, self._within_s = lines, within_s
        self._counting = threading.Lock()
        self._since: dict[
            tuple[str, int], tuple[float, int]
        ] = {}  # when counting began, and so far

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written; the first of a minute says how many were not."""
        place, now = (record.pathname, record.lineno), time.monotonic()
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
