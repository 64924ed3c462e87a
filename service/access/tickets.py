"""Single-use passes for a WebSocket: a browser cannot send headers with one."""

from __future__ import annotations

import hashlib
import secrets

from service.errors import BadTicket
from service.store.session_store import SessionStore

OF_TENANT = "tenant:"


class Tickets:
    """Single-use tickets for clients that cannot send headers with a WebSocket."""

    def __init__(self, store: SessionStore, *, ttl_s: float) -> None:
        self._store = store
        self.ttl_s = ttl_s

    async def issue(self, session_id: str, *, tenant: str) -> str:
        """Return a new ticket for this session; raise UnknownSession."""
        await self._store.load(session_id, tenant=tenant)
        ticket = secrets.token_urlsafe(24)
        value = f"{OF_TENANT}{tenant}"
        await self._store.set_side_key(session_id, _name(ticket), value, ttl_s=self.ttl_s)
        return ticket

    async def use(self, session_id: str, ticket: str) -> str | None:
        """Use the ticket up and return the tenant it was issued to (None: an older gateway's).

        Raise BadTicket if it is not one of this session.
        """
        value = await self._store.take_side_key(session_id, _name(ticket))
        if value is None:
            raise BadTicket("the ticket is unknown, used, expired, or of another session")
        return value.removeprefix(OF_TENANT) if value.startswith(OF_TENANT) else None


def _name(ticket: str) -> str:
    # The digest: who can read Redis's keys cannot use the ticket.
    return f"ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"
