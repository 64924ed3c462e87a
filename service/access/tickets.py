"""Single-use passes for a WebSocket: a browser cannot send headers with one."""

from __future__ import annotations

import hashlib
import secrets

from service.errors import BadTicket
from service.store.session_store import SessionStore


class Tickets:
    """Single-use tickets for clients that cannot send headers with a WebSocket."""

    def __init__(self, store: SessionStore, *, ttl_s: float) -> None:
        self._store = store
        self.ttl_s = ttl_s

    async def issue(self, session_id: str) -> str:
        """Return a new ticket for this session; raise UnknownSession."""
        await self._store.load(session_id)
        ticket = secrets.token_urlsafe(24)
        await self._store.set_side_key(session_id, _name(ticket), "1", ttl_s=self.ttl_s)
        return ticket

    async def use(self, session_id: str, ticket: str) -> None:
        """Use the ticket up; raise BadTicket if it is not one of this session."""
        if await self._store.take_side_key(session_id, _name(ticket)) is None:
            raise BadTicket("the ticket is unknown, used, expired, or of another session")


def _name(ticket: str) -> str:
    # The digest: who can read Redis's keys cannot use the ticket.
    return f"ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"
