"""A service of our own: a child process on a free port that ends when we end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from service.errors import StartupError
from service.local.supervisor import POLL_S, read_last_line, start_child, stop_child
from service.settings.reading import VARIABLES, copy_environment_without

LISTENING = re.compile(r"^listening on (http://\S+)$", re.MULTILINE)
# It is on loopback and ours alone: these are not for it, whatever the environment says.
PUBLIC = frozenset(
    ("keys", "oidc_issuer", "tenant_header", "tls_certificate", "tls_key", "tls_client_ca")
)
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def private_service(
    state: Path,
    *,
    settings: Mapping[str, str] | None = None,
    workers: int = 1,
    start_deadline_s: float = 60.0,
    stop_deadline_s: float = 30.0,
) -> Iterator[str]:
    """Yield the URL of a service that runs until the block is left.

    Its sessions and its log are kept in `state`, for the next service on the same folder.
    `settings` are further environment variables.

    Raises:
        StartupError: it did not start; the text is its own last line.
    """
    state.mkdir(parents=True, exist_ok=True)
    log = state / "service.log"
    search = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    own = {"TAMVT_STATE": str(state), "PYTHONPATH": search, "PYTHONUNBUFFERED": "1"}
    own |= settings or {}
    others = copy_environment_without(
        {*PUBLIC, *(VARIABLES[name] for name in own if name in VARIABLES)}
    )
    command = [sys.executable, "-P", "-m", "service", "serve", "--port", "0"]
    command += ["--workers", str(workers)] if workers > 1 else []
    process = start_child(command, log=log, environment={**others, **own})
    try:
        yield wait_for_address(process, log, deadline_s=start_deadline_s)
    finally:
        stop_child(process, deadline_s=stop_deadline_s)


def wait_for_address(process: subprocess.Popen[bytes], log: Path, *, deadline_s: float) -> str:
    """Wait until a service says where it listens, and return that; raise StartupError."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        ended = process.poll() is not None
        said = log.read_text(encoding="utf-8", errors="replace")
        if found := LISTENING.search(said):
            return found[1]
        if ended:
            raise StartupError(
                f"the service did not start: {read_last_line(log).removeprefix('tamvt: ')}"
            )
        time.sleep(POLL_S)
    raise StartupError(f"the service was not ready within {deadline_s:g} s; its log is {log}")
