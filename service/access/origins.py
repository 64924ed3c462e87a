"""Where a call may come from, as far as browsers say so: names of the service, origins of pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from service.errors import ForeignHost, ForeignOrigin, echo

EVERYBODY: Final = "*"
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Access:
    """The operator's choices: the service's own names, and origins of pages on other hosts.

    Without `hosts` any name will do.
    """

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    tickets_required: bool = False

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Raise ForeignHost for a name that is none of the service's.

        A page elsewhere may give its own name our address (DNS rebinding), and is then of the
        same origin for the browser. An address is no such name.
        """
        host = headers.get("host")
        if host is None or not self.hosts or EVERYBODY in self.hosts:
            return
        name = _host_name(host)
        if name not in self.hosts and not _is_address(name):
            raise ForeignHost(f"the service is not called {echo(name)!r}; see TAMVT_ALLOWED_HOSTS")

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raise ForeignOrigin for a page elsewhere; only browsers say where a request is from."""
        origin = headers.get("origin")
        if EVERYBODY in self.origins or origin in self.origins:
            return
        if origin is None:
            if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
                raise ForeignOrigin("pages of other sites may not use this service")
            return
        try:
            own = urlsplit(origin).netloc == headers.get("host")
        except ValueError:  # an address in brackets that is none
            own = False
        if not own:
            raise ForeignOrigin(f"pages of {echo(origin)} may not use this service")

    def check(self, headers: Mapping[str, str], *, method: str) -> None:
        """Raise ForeignHost, or ForeignOrigin where the request may change something."""
        self.check_host(headers)
        if method not in SAFE_METHODS:
            self.check_origin(headers)


def read_hosts(text: str) -> tuple[str, ...]:
    """Read the host names in a list with commas, as `check_host` compares them."""
    return tuple(_host_name(part.strip()) for part in text.split(",") if part.strip())


def _host_name(host: str) -> str:
    """Return the name or address in a Host header: without port, brackets and last dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def read_origins(text: str) -> tuple[str, ...]:
    """Read the origins in a list with commas, without spaces and closing slashes."""
    return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
