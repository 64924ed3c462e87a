"""The sessions of a tenant, a page at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from service.errors import CorruptSession, UnknownSession
from service.store.records import Session
from service.store.session_store import SessionStore


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions in the order of their ids; `following` is where the next page begins, if any."""

    sessions: tuple[Session, ...]
    following: str | None


async def list_sessions(store: SessionStore, *, tenant: str, after: str, most: int) -> SessionPage:
    """Return the tenant's sessions whose ids come after `after`, at most `most`.

    To be listed renews no session's time to live. One that is counted and not there is left out: it
    has expired, which the quota's own check finds, or is being started. One that is damaged is left
    out too, and its own calls say so.
    """
    ids = [name for name in await store.quota.session_ids(tenant) if name > after]
    shown = ids[:most]
    looked = (store.peek(session_id, tenant=tenant) for session_id in shown)
    found = await asyncio.gather(*looked, return_exceptions=True)
    sessions: list[Session] = []
    for each in found:
        if isinstance(each, Session):
            sessions.append(each)
        elif not isinstance(each, UnknownSession | CorruptSession):
            raise each
    return SessionPage(tuple(sessions), following=shown[-1] if len(ids) > most else None)
