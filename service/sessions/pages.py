"""Stored masks, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import UnknownFrame
from service.store.records import FrameMasks, Session
from service.store.session_store import SessionStore


@dataclass(frozen=True, slots=True)
class Page:
    """Masks in order; `following` is the first frame that did not fit on the page, if any."""

    session: Session
    frames: tuple[FrameMasks, ...]
    following: int | None


async def read_page(
    store: SessionStore,
    session_id: str,
    *,
    tenant: str,
    first: int,
    last: int | None,
    most: int,
) -> Page:
    """Return the masks of frames `first` to `last` (None: the newest), at most `most` of them.

    Raises UnknownFrame if there is none, or `first` is older than what is kept.
    """
    session = await store.load(session_id, tenant=tenant)
    end = session.newest if last is None else min(last, session.newest)
    if not session.kept_from <= first <= end:
        raise UnknownFrame(
            f"no masks from frame {first} to {end if last is None else last}; "
            f"those of frames {session.kept_from} to {session.newest} are kept"
        )
    stop = min(end, first + most - 1)
    frames = await store.masks(session_id, first, stop)
    return Page(session, frames, following=stop + 1 if stop < end else None)
