"""One of the processes of `tamvt serve --workers`, started by it alone.

    python -m service.commands.worker FOLDER LISTENING TELL

The words are a folder that all of them leave their metrics in, and two inherited file descriptors:
the listening socket, and a pipe for one byte when it is ready.
"""

from __future__ import annotations

import sys
from pathlib import Path

from service.commands.serve import run_worker
from service.errors import TamvtError

if __name__ == "__main__":
    try:
        sys.exit(run_worker(Path(sys.argv[1]), *map(int, sys.argv[2:])))
    except TamvtError as error:
        sys.exit(f"tamvt: {error}")
