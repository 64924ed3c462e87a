"""A new session from what another one remembers, now or some clips ago."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from service.errors import BadOption, RollbackTooFar, UnknownFrame
from service.store.records import Session, Snapshot
from service.store.session_store import SessionStore, new_session_id

MOST_MASKS: Final = 1000  # newest frames whose masks a fork takes along


async def fork(session: Session, at: int | None, *, store: SessionStore) -> Session:
    """Start a session that continues after frame `at` of this one (None: the newest).

    Conflict where another process changes the session meanwhile, TooMany, and what `origin_of`
    raises.
    """
    origin = origin_of(session, at)
    new = forked(session, origin)
    masks = list(await store.masks(session.session_id, new.kept_from, origin.frame))
    if origin.corrected:
        masks[-1] = await store.replaced_masks(session, origin.frame)
    frames = sorted({origin.frame, *(entry.frame for entry in origin.memory.entries)})
    # Read last: it is answered only if nothing has changed since the session was loaded.
    entries = await store.entries(session, origin.memory, frames=frames)
    kept = dict(zip(frames, entries, strict=True))
    return await store.create(new, masks=masks, entries=kept)


def origin_of(session: Session, at: int | None) -> Snapshot:
    """Return what a fork begins with: the session as it is, or after the clip that ends at `at`.

    Raises:
        UnknownFrame: the frame is not committed.
        RollbackTooFar: it is older than what is kept; names the oldest frame possible.
        BadOption: it is not the last of its clip.
    """
    if at is None:
        return Snapshot(session.newest, session.object_ids, session.memory)
    if at > session.newest:
        raise UnknownFrame(f"frame {at} is not committed; the newest one is {session.newest}")
    oldest = session.history[0].frame
    if at < oldest:
        raise RollbackTooFar(f"frame {at} is too old to go back to", oldest=oldest)
    boundaries = [past.frame for past in session.history]
    if at not in boundaries:
        before = max(frame for frame in boundaries if frame < at)
        raise BadOption(f"frame {at} is not the last of its clip; the clip before ends at {before}")
    return next(past for past in session.history if past.frame == at)


def forked(session: Session, origin: Snapshot) -> Session:
    """Return a new session that continues after `origin`; it can be forked there, and later."""
    return replace(
        session,
        session_id=new_session_id(),
        object_ids=origin.object_ids,
        memory=origin.memory,
        next_frame=origin.frame + 1,
        # Versions go on, so that corrections of the two never take the same revision.
        version=session.version,
        kept_from=max(session.kept_from, origin.frame + 1 - MOST_MASKS),
        history=(replace(origin, corrected=False),),
    )
