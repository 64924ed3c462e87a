"""The session store: Redis holds the truth of every session, small, and a script decides.

All keys of a session are `tamvt:{<session id>}:session|entries|masks`; the scripts are in
`service/lua/`. A commit whose answer was lost may still have happened. It carries a token, so that
the store itself can send it again; a client that sends its frames again finds them committed, and
is answered frame by frame from their digests (`tracking.py`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from model.core.memory import Memory
from service.errors import Conflict, CorruptSession, TamvtError, UnknownSession
from service.store import lua
from service.store.quotas import DEFAULT_TENANT, SessionQuota
from service.store.records import (
    EncodedEntry,
    FrameMasks,
    ObjectMask,
    Session,
    entry_field,
    pack_entry,
    pack_masks,
    pack_session,
    unpack_entry,
    unpack_masks,
    unpack_session,
)
from service.store.redis_client import (
    Client,
    Word,
    check_serving,
    key,
    open_redis,
    read_words,
    run_script,
    translated,
)

__all__ = [
    "EncodedEntry",
    "FrameMasks",
    "ObjectMask",
    "Session",
    "SessionStore",
    "new_session_id",
    "open_store",
]

MASKS_PER_READ = 1000


def new_session_id() -> str:
    """An id nobody can guess: knowing it is the right to use the session."""
    return secrets.token_urlsafe(16)


@asynccontextmanager
async def open_store(
    url: str,
    *,
    ttl_s: float,
    deadline_s: float = 5.0,
    kept_frames: int = 10_000,
    tenant_sessions: int = 0,
    max_connections: int = 32,
) -> AsyncIterator[SessionStore]:
    """The store on the Redis at `url`, one server or a cluster; Misconfigured for another address.

    It is opened without asking whether Redis is there: `ping` does that.
    """
    client = open_redis(url, deadline_s=deadline_s, max_connections=max_connections)
    async with client as redis:
        yield SessionStore(
            redis,
            ttl_s=ttl_s,
            deadline_s=deadline_s,
            kept_frames=kept_frames,
            tenant_sessions=tenant_sessions,
        )


class SessionStore:
    """Sessions in Redis. Every command is answered within the deadline, or StoreUnavailable."""

    def __init__(
        self,
        redis: Client,
        *,
        ttl_s: float,
        deadline_s: float = 5.0,
        kept_frames: int = 10_000,
        tenant_sessions: int = 0,
    ) -> None:
        self._redis = redis
        self._ttl = timedelta(seconds=ttl_s)
        self._deadline_s = deadline_s
        self._kept_frames = kept_frames
        self._quota = SessionQuota(
            redis, limit=tenant_sessions, ttl_ms=self._ttl_ms, deadline_s=deadline_s
        )

    async def ping(self) -> None:
        """Nothing, if Redis serves."""
        async with self._deadline():
            await check_serving(self._redis)

    async def create(
        self,
        session: Session,
        *,
        masks: Sequence[FrameMasks],
        entries: Mapping[int, EncodedEntry],
        tenant: str = DEFAULT_TENANT,
    ) -> Session:
        """The session as stored, with its `expires_at`; Conflict if the id is taken, TooMany."""
        sealed = _sealed_entries(session, entries, _fields_kept(session))
        async with self._quota.taken(tenant, session.session_id):
            return await self._commit(session, (0, 0), masks=masks, entries=sealed, evicted=())

    async def append(
        self,
        before: Session,
        after: Session,
        *,
        masks: Sequence[FrameMasks],
        entries: Mapping[int, EncodedEntry],
        aside: FrameMasks | None = None,
    ) -> Session:
        """The session as stored after one more commit, all of it or nothing.

        `after` is `before.advanced(...)`. `masks` are new or rewritten frames. `entries` holds the
        new or rewritten entries of `after.memory` and of its history, and the newest frame's in
        any case: that one is always kept, so that it can be corrected. Others are left out.
        `aside` are masks that a correction replaces. Raises Conflict with the frame number
        expected where another commit came first, and UnknownSession.
        """
        kept = _fields_kept(after)
        evicted = sorted(_fields_kept(before) - kept)
        written = _sealed_entries(after, entries, kept)
        if aside is not None:
            written[_aside(aside.frame)] = pack_masks(after.session_id, aside)
        expected = (before.version, before.next_frame)
        return await self._commit(after, expected, masks=masks, entries=written, evicted=evicted)

    async def load(self, session_id: str) -> Session:
        """The session; it lives on for its whole time again. UnknownSession, CorruptSession."""
        answer = await self._send(lua.LOAD, session_id, [self._ttl_ms])
        if not answer:
            raise UnknownSession(session_id)
        state, version, next_frame, kept_from, left_ms = answer
        if state is None:
            raise CorruptSession(session_id, "its state is missing")
        expires_at = datetime.now(UTC) + timedelta(milliseconds=left_ms)
        session = unpack_session(session_id, state, expires_at=expires_at)
        counters = [str(n).encode() for n in (session.version, session.next_frame)]
        if [version, next_frame] != counters or kept_from != str(session.kept_from).encode():
            raise CorruptSession(session_id, "its counters disagree with its state")
        return session

    async def entries(
        self, session: Session, memory: Memory | None = None, *, frames: Sequence[int] | None = None
    ) -> tuple[EncodedEntry, ...]:
        """The entries of the session's memory, or of one of its history, in the memory's order.

        `frames` asks for those of other frames. Kept are the frames of each memory and the one
        that was its newest. Conflict if the session has moved on since it was loaded;
        CorruptSession if an entry is missing or damaged.
        """
        memory = memory or session.memory
        wanted = [entry.frame for entry in memory.entries] if frames is None else frames
        fields = _fields(memory)
        names = [fields.get(frame, entry_field(frame)) for frame in wanted]
        return tuple(
            unpack_entry(session.session_id, name, data)
            for name, data in zip(names, await self._records(session, names), strict=True)
        )

    async def masks_aside(self, session: Session, frame: int) -> FrameMasks:
        """The masks that a frame had before it was corrected; errors as for `entries`."""
        (data,) = await self._records(session, [_aside(frame)])
        return unpack_masks(session.session_id, frame, data)

    async def _records(self, session: Session, names: Sequence[str]) -> list[bytes]:
        arguments = [session.version, *names]
        status, expected, *sealed = await self._send(lua.ENTRIES, session.session_id, arguments)
        _check(status, session.session_id, expected=expected)
        return [
            self._present(session.session_id, f"the entry of frame {name}", data)
            for name, data in zip(names, sealed, strict=True)
        ]

    async def masks(self, session_id: str, first: int, last: int) -> tuple[FrameMasks, ...]:
        """The masks of the frames from first to last that are committed and kept, in order."""
        found: list[FrameMasks] = []
        for start in range(first, max(first, last) + 1, MASKS_PER_READ):
            end = min(start + MASKS_PER_READ - 1, last)
            answer = await self._send(lua.MASKS, session_id, [start, end])
            if not answer:
                raise UnknownSession(session_id)
            found += (
                unpack_masks(session_id, frame, self._present(session_id, f"frame {frame}", data))
                for frame, data in enumerate(answer[1:], start=answer[0])
            )
        return tuple(found)

    async def delete(self, session_id: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """The session is gone, and does not count as the tenant's any more; UnknownSession."""
        async with self._deadline(session_id):
            existed = await self._run(lua.DELETE, session_id, [])
        await self._quota.give_back(tenant, session_id)
        if not existed:
            raise UnknownSession(session_id)

    async def set_side_key(self, session_id: str, name: str, value: str, *, ttl_s: float) -> None:
        """Keeps a word beside the session, under the same hash tag, for so many seconds."""
        async with self._deadline(session_id):
            await self._redis.set(_side_key(session_id, name), value, px=round(1000 * ttl_s))

    async def read_side_key(self, session_id: str, name: str) -> str | None:
        """The word; None if it is not there, or not any more."""
        async with self._deadline(session_id):
            return _word(await self._redis.get(_side_key(session_id, name)))

    async def read_side_keys(
        self, session_ids: Sequence[str], name: str
    ) -> list[str | TamvtError | None]:
        """The value beside each session, all at once; an error is its own only."""
        async with self._deadline():
            notes = [_side_key(session_id, name) for session_id in session_ids]
            found = await read_words(self._redis, notes)
        return [_heard(i, value) for i, value in zip(session_ids, found, strict=True)]

    async def take_side_key(self, session_id: str, name: str) -> str | None:
        """The word, which is gone then: only one of several callers gets it."""
        async with self._deadline(session_id):
            return _word(await self._redis.getdel(_side_key(session_id, name)))

    @property
    def _ttl_ms(self) -> int:
        return int(self._ttl / timedelta(milliseconds=1))

    async def _commit(
        self,
        session: Session,
        expected: tuple[int, int],
        *,
        masks: Sequence[FrameMasks],
        entries: Mapping[str, bytes],
        evicted: Sequence[str],
    ) -> Session:
        kept_from = max(session.kept_from, session.next_frame - self._kept_frames)
        session = replace(session, kept_from=kept_from)
        arguments: Iterable[Any] = chain(
            (*expected, secrets.token_hex(8), self._ttl_ms, pack_session(session)),
            (session.version, session.next_frame, kept_from),
            (len(masks), len(entries), len(evicted)),
            *((m.frame, pack_masks(session.session_id, m)) for m in masks),
            *entries.items(),
            evicted,
        )
        # The token makes a second sending harmless.
        answer = await self._send(lua.COMMIT, session.session_id, list(arguments))
        _check(answer[0], session.session_id, expected=answer[1])
        return replace(session, expires_at=datetime.now(UTC) + self._ttl)

    async def _send(self, script: lua.Script, session_id: str, arguments: Sequence[Any]) -> Any:
        """What the script answers; sent once more after a lost connection."""
        async with self._deadline(session_id):
            try:
                return await self._run(script, session_id, arguments)
            except RedisConnectionError:
                return await self._run(script, session_id, arguments)

    async def _run(self, script: lua.Script, session_id: str, arguments: Sequence[Any]) -> Any:
        keys = [key(session_id, part) for part in ("session", "entries", "masks")]
        return await run_script(self._redis, script, keys, arguments)

    @asynccontextmanager
    async def _deadline(self, session_id: str = "") -> AsyncIterator[None]:
        with translated(session_id):
            async with asyncio.timeout(self._deadline_s):
                yield

    @staticmethod
    def _present(session_id: str, what: str, data: bytes | None) -> bytes:
        if data is None:
            raise CorruptSession(session_id, f"{what} is missing")
        return data


def _fields(memory: Memory) -> dict[int, str]:
    """The fields of a memory's entries by frame."""
    return {entry.frame: entry_field(entry.frame, entry.revision) for entry in memory.entries}


def _fields_kept(session: Session) -> frozenset[str]:
    """The fields that are stored: of the memory now and earlier, and of what was newest then.

    The newest frame is kept for corrections even where the memory does not hold it.
    """
    fields: set[str] = set()
    for frame, memory in (
        (session.newest, session.memory),
        *((past.frame, past.memory) for past in session.history),
    ):
        named = _fields(memory)
        fields.update(named.values())
        fields.add(named.get(frame, entry_field(frame)))
    fields.update(_aside(past.frame) for past in session.history if past.corrected)
    return frozenset(fields)


def _sealed_entries(
    session: Session, entries: Mapping[int, EncodedEntry], kept: Collection[str]
) -> dict[str, bytes]:
    """Entries, by frame, as those of the fields `kept` are stored; the memory says the revision."""
    fields = _fields(session.memory)
    named = {fields.get(frame, entry_field(frame)): entry for frame, entry in entries.items()}
    return {
        name: pack_entry(session.session_id, name, entry)
        for name, entry in named.items()
        if name in kept
    }


def _side_key(session_id: str, name: str) -> str:
    return key(session_id, name)


def _word(value: Word) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _heard(session_id: str, answer: Word | Exception) -> str | TamvtError | None:
    """One answer of several; what failed as an error of ours."""
    if not isinstance(answer, Exception):
        return _word(answer)
    try:
        with translated(session_id):
            raise answer
    except TamvtError as error:
        return error


def _aside(frame: int) -> str:
    """Where the masks are kept that a correction replaced."""
    return f"{frame}.masks"


def _check(status: bytes, session_id: str, *, expected: int) -> None:
    if status == b"unknown":
        raise UnknownSession(session_id)
    if status == b"conflict":
        message = f"the session was changed meanwhile and expects frame {expected}"
        raise Conflict(message, expected=expected)
