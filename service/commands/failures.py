"""How a command ends when it fails: one line on stderr and a status, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from model.core.masks import MaskError
from model.core.pixels import PixelError
from service.errors import TamvtError
from tamvt_client import ClientError

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def run_and_report(name: str, work: Callable[[], None]) -> int:
    """The exit status of `work`: 0, 1 where it failed for a known reason, 130 after Ctrl-C."""
    try:
        work()
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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
