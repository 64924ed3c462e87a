"""Who may do what, as far as that is known before a request is read: origins and tenants.

A tenant is who shares limits. Where a proxy names it in a header it is that name, else everybody
is one tenant; the service itself asks nobody for a password.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from service.errors import ForeignOrigin
from service.store.records import DEFAULT_TENANT

EVERYBODY: Final = "*"


@dataclass(frozen=True, slots=True)
class Access:
    """The operator's choices; `origins` are those of pages on other hosts."""

    origins: tuple[str, ...] = ()
    tenant_header: str = ""
    tickets_required: bool = False

    def tenant(self, headers: Mapping[str, str]) -> str:
        """Return the tenant whose limits count."""
        named = headers.get(self.tenant_header) if self.tenant_header else None
        return named or DEFAULT_TENANT

    def holder(self, headers: Mapping[str, str], peer: str) -> str:
        """Return whose share of the places counts: the tenant's, or the peer's where all are one.

        `peer` is the address that the request comes from.
        """
        return self.tenant(headers) if self.tenant_header else peer

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raise ForeignOrigin for a page elsewhere; only browsers name the origin of a page."""
        origin = headers.get("origin")
        if origin is None or EVERYBODY in self.origins or origin in self.origins:
            return
        if urlsplit(origin).netloc != headers.get("host"):
            raise ForeignOrigin(f"pages of {origin} may not use this service")


def read_origins(text: str) -> tuple[str, ...]:
    """Read the origins in a list with commas, without spaces and closing slashes."""
    return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
