"""Where load may go: to this machine, unless somebody says otherwise."""

from __future__ import annotations

from tamvt_client.addresses import is_loopback


def require_loopback(url: str, *, allow_remote: bool = False) -> str:
    """Return the address; end the program if it is another machine's and that was not allowed."""
    if not allow_remote and not is_loopback(url):
        raise SystemExit(
            f"{url} is not this machine: a load test there may be an attack. If it is yours to "
            "load, say --allow-remote."
        )
    return url
