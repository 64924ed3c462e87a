"""How a command ends when it fails: one line on stderr and a status, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from model.core.masks import MaskError
from model.core.pixels import PixelError
from service.errors import TamvtError
from tamvt_client import ClientError

P = ParamSpec("P")
FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def report_failures(name: str) -> Callable[[Callable[P, None]], Callable[P, int]]:
    """Let a command return its exit status: 0, 1 for a known failure, 130 after Ctrl-C."""

    def decorate(command: Callable[P, None]) -> Callable[P, int]:
        @wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            try:
                command(*args, **kwargs)
            except KeyboardInterrupt:
                _say(f"tamvt {name}: stopped")
                return INTERRUPTED
            except OSError as error:
                place = f": {error.filename}" if error.filename else ""
                _say(f"tamvt {name}: {error.strerror or error}{place}")
                return FAILED
            except (ClientError, TamvtError, MaskError, PixelError) as error:
                _say(f"tamvt {name}: {' '.join(str(error).split())}")
                return FAILED
            return 0

        return run

    return decorate


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
