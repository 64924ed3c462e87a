"""The session store: Redis holds all that is true of a session, and scripts decide.

The package's docstring lists the keys; the scripts are in `service/store/lua/`. A commit whose
answer was lost may still have happened. It carries a token (decision 11), so that the store itself
can send it again. A client that sends its frames again finds them committed: each is compared by
its digest and answered from the store.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from service.errors import CorruptSession, TamvtError, UnknownSession
from service.server.workers import run_aside
from service.store import lua
from service.store.codec import (
    pack_masks,
    pack_session,
    unpack_entries,
    unpack_masks,
    unpack_page,
    unpack_session,
    unpack_snapshot,
    unpack_states,
)
from service.store.commits import (
    check_status,
    count_needed_bytes,
    make_snapshot_records,
    name_memory_fields,
    pruned_frames,
    seal_masks,
    seal_records,
    yield_dropped_snapshots,
)
from service.store.quotas import SessionQuota
from service.store.records import (
    ANY_TENANT,
    DEFAULT_TENANT,
    NO_LIMITS,
    EncodedEntry,
    FrameMasks,
    ObjectMask,
    Session,
    Snapshot,
    SnapshotContents,
    StoreLimits,
    entry_field,
)
from service.store.redis_client import (
    Client,
    Value,
    check_serving,
    check_taking_writes,
    key,
    open_redis,
    read_values,
    run_script,
    translate_errors,
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

MASKS_PER_READ, WRITABLE_S = 1000, 1.0
NONE: Mapping[str, bytes] = {}
PARTS = ("session", "entries", "masks")  # the keys of a session that expire together
MASKS = "masks:"  # before the name of a record that lies with the masks
STREAM_OWNER: Final = "stream"  # the side key that names the stream a session belongs to


def new_session_id() -> str:
    """Return an id that cannot be guessed: knowing it is the right to use the session."""
    return secrets.token_urlsafe(16)


@asynccontextmanager
async def open_store(
    url: str,
    *,
    ttl_s: float,
    deadline_s: float = 5.0,
    kept_frames: int = 10_000,
    limits: StoreLimits = NO_LIMITS,
    max_connections: int = 32,
) -> AsyncIterator[SessionStore]:
    """Open the store on the Redis at `url`, one server or a cluster; Misconfigured as `open_redis`.

    It does not ask whether Redis serves: `ping` does that.
    """
    client = open_redis(url, deadline_s=deadline_s, max_connections=max_connections)
    async with client as redis:
        yield SessionStore(
            redis, ttl_s=ttl_s, deadline_s=deadline_s, kept_frames=kept_frames, limits=limits
        )


class SessionStore:
    """Sessions in Redis. Each command raises StoreUnavailable beyond the deadline."""

    def __init__(
        self,
        redis: Client,
        *,
        ttl_s: float,
        deadline_s: float = 5.0,
        kept_frames: int = 10_000,
        limits: StoreLimits = NO_LIMITS,
    ) -> None:
        self.redis = self._redis = redis  # for what else is kept there, such as keys
        self._ttl = timedelta(seconds=ttl_s)
        self._deadline_s = deadline_s
        self._kept_frames = kept_frames
        self.limits = limits
        self.quota = SessionQuota(redis, limits=limits, ttl_ms=self._ttl_ms, deadline_s=deadline_s)

    async def ping(self) -> None:
        """Raise StoreUnavailable unless Redis serves."""
        async with self._deadline():
            await check_serving(self._redis)

    async def check_writable(self) -> None:
        """Raise StoreUnavailable unless Redis takes a write, within a second."""
        with translate_errors():
            async with asyncio.timeout(min(self._deadline_s, WRITABLE_S)):
                await check_taking_writes(self._redis)

    async def create(
        self,
        session: Session,
        *,
        masks: Sequence[FrameMasks],
        entries: Mapping[str, EncodedEntry],
        states: Mapping[str, bytes] = NONE,
    ) -> Session:
        """Commit a new session and return it with its `expires_at`.

        `entries` and `states` are by field. Raise Conflict if the id is taken, and what
        is beyond a limit: MasksTooLarge, SessionTooLarge, TooMany.
        """
        records = seal_records(session, entries, states)
        sealed = await self._seal(session.session_id, masks)
        nbytes = count_needed_bytes(0, sealed, records, self.limits)
        tenant, name, objects = session.tenant, session.session_id, len(session.object_ids)
        async with self.quota.reserve(tenant, name, nbytes, objects=objects) as reserved:
            session = replace(session, reserved_bytes=reserved)
            return await self._commit(None, session, masks=sealed, records=records)

    async def append(
        self,
        before: Session,
        after: Session,
        *,
        masks: Sequence[FrameMasks],
        entries: Mapping[str, EncodedEntry],
        states: Mapping[str, bytes] = NONE,
        replaced: FrameMasks | None = None,
        owner: str = "",
    ) -> Session:
        """Commit one more step of a session, all of it or nothing, and return it as stored.

        `after` is `before.advanced(...)`. `masks` are those of new or rewritten frames. `entries`,
        by field, are the new or rewritten ones of `after.memory` and of new snapshots, and always
        the newest frame's, so that it can be corrected; others are ignored. `states` are a model's
        own, by the name in the session or a snapshot that goes on from it. `replaced` are the
        masks before a correction, kept so that it can be undone. What only snapshots need that
        `after` no longer has is removed.

        Raise Conflict with the frame number expected if another commit came first, or another
        stream than `owner` (empty: none) has the session now; UnknownSession, and what is beyond a
        limit: MasksTooLarge, SessionTooLarge, TooMany.
        """
        records = seal_records(after, entries, states)
        for snapshot in before.snapshots:  # those of a session in format 2 are no records yet
            records |= make_snapshot_records(after.session_id, snapshot)
        if replaced is not None:
            name = f"{entry_field(replaced.frame)}.masks"
            records[name] = pack_masks(after.session_id, replaced)
        written = await self._seal(after.session_id, masks)
        if written:  # what removes an object is always taken
            nbytes = count_needed_bytes(before.stored_bytes, written, records, self.limits)
            objects = len(after.object_ids)
            reserved = await self.quota.grow(before, nbytes, tenant=after.tenant, objects=objects)
            after = replace(after, reserved_bytes=reserved)
        return await self._commit(before, after, masks=written, records=records, owner=owner)

    async def load(self, session_id: str, *, tenant: str = DEFAULT_TENANT) -> Session:
        """Return the session and renew its time to live; raise UnknownSession, CorruptSession.

        Another tenant's session is unknown. One that was stored before sessions had a tenant is
        the caller's, and becomes so for all with its next commit.
        """
        return await self._load(session_id, tenant, renewed_ms=self._ttl_ms)

    async def peek(self, session_id: str, *, tenant: str) -> Session:
        """Return the session as `load` does, without renewing its time to live."""
        return await self._load(session_id, tenant, renewed_ms=0)

    async def _load(self, session_id: str, tenant: str, *, renewed_ms: int) -> Session:
        answer = await self._send(lua.LOAD, session_id, [renewed_ms, tenant])
        if not answer:
            raise UnknownSession(session_id)
        state, version, next_frame, kept_from, owner, stored, reserved, left_ms = answer
        if state is None:
            raise CorruptSession(session_id, "its state is missing")
        expires_at = datetime.now(UTC) + timedelta(milliseconds=left_ms)
        session = unpack_session(session_id, state, expires_at=expires_at)
        session = replace(session, stored_bytes=int(stored or 0), reserved_bytes=int(reserved or 0))
        counters = [str(n).encode() for n in (session.version, session.next_frame)]
        if [version, next_frame] != counters or kept_from != str(session.kept_from).encode():
            raise CorruptSession(session_id, "its counters disagree with its state")
        if (owner or b"").decode() != session.tenant:
            raise CorruptSession(session_id, "its tenant disagrees with its state")
        return session if session.tenant != ANY_TENANT else replace(session, tenant=tenant)

    async def entries(
        self, session: Session, fields: Sequence[str] | None = None
    ) -> tuple[EncodedEntry, ...]:
        """Return the entries of these fields (None: of the session's memory, in its order).

        Raise Conflict if the session was changed since it was loaded, CorruptSession if an entry
        is missing or damaged.
        """
        names = name_memory_fields(session.memory) if fields is None else fields
        records = await self._records(session, names)
        unpack = partial(unpack_entries, session.session_id, names, records)
        return await run_aside(unpack, nbytes=sum(map(len, records)))

    async def states(self, session: Session, names: Sequence[str]) -> tuple[bytes | None, ...]:
        """Return these states of the session's model; None for one that is missing or damaged."""
        return unpack_states(session.session_id, names, await self._read(session, names))

    async def snapshot(self, session: Session, snapshot: Snapshot) -> SnapshotContents:
        """Return what a snapshot of the session keeps; raise as `entries` does."""
        if snapshot.contents is not None:
            return snapshot.contents
        (data,) = await self._records(session, [f"{snapshot.name}.snapshot"])
        return unpack_snapshot(session.session_id, snapshot.name, data)

    async def snapshot_masks(self, session: Session, snapshot: Snapshot) -> FrameMasks:
        """Return the masks of a snapshot's frame as they were then; raise as `entries` does."""
        name = f"{snapshot.name}.masks" if snapshot.corrected else f"{MASKS}{snapshot.frame}"
        (data,) = await self._records(session, [name])
        return unpack_masks(session.session_id, snapshot.frame, data)

    async def _records(self, session: Session, names: Sequence[str]) -> list[bytes]:
        found = zip(names, await self._read(session, names), strict=True)
        return [
            self._present(session.session_id, f"the record {name}", data) for name, data in found
        ]

    async def _read(self, session: Session, names: Sequence[str]) -> Sequence[bytes | None]:
        answer = await self._send(lua.ENTRIES, session.session_id, [session.version, *names])
        check_status(answer[0], session.session_id, expected=answer[1])
        return tuple(answer[2:])

    async def masks(self, session_id: str, first: int, last: int) -> tuple[FrameMasks, ...]:
        """Return the masks of the committed and kept frames from first to last, in order."""
        found: list[FrameMasks] = []
        for start in range(first, max(first, last) + 1, MASKS_PER_READ):
            end = min(start + MASKS_PER_READ - 1, last)
            answer = await self._send(lua.MASKS, session_id, [start, end])
            if not answer:
                raise UnknownSession(session_id)
            page = [
                (frame, self._present(session_id, f"frame {frame}", data))
                for frame, data in enumerate(answer[1:], start=answer[0])
            ]
            unpack = partial(unpack_page, session_id, page)
            found += await run_aside(unpack, nbytes=sum(len(data) for _, data in page))
        return tuple(found)

    async def delete(self, session_id: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Delete the session and count it no longer as its tenant's; raise UnknownSession."""
        async with self._deadline(session_id):
            keys = [key(session_id, part) for part in PARTS]
            existed = await run_script(self._redis, lua.DELETE, keys, [tenant])
        await self.quota.release(tenant, session_id)
        if not existed:
            raise UnknownSession(session_id)

    async def set_side_key(self, session_id: str, name: str, value: str, *, ttl_s: float) -> None:
        """Store a value beside the session, under the same hash tag, for `ttl_s` seconds."""
        async with self._deadline(session_id):
            await self._redis.set(key(session_id, name), value, px=round(1000 * ttl_s))

    async def read_side_key(self, session_id: str, name: str) -> str | None:
        """Return the value beside the session; None if there is none, or it has expired."""
        async with self._deadline(session_id):
            return _text(await self._redis.get(key(session_id, name)))

    async def read_side_keys(
        self, session_ids: Sequence[str], name: str
    ) -> list[str | TamvtError | None]:
        """Return the value beside each session, or the error of that one alone."""
        async with self._deadline():
            keys = [key(session_id, name) for session_id in session_ids]
            found = await read_values(self._redis, keys)
        values: list[str | TamvtError | None] = []
        for session_id, value in zip(session_ids, found, strict=True):
            try:
                with translate_errors(session_id):
                    if isinstance(value, Exception):
                        raise value
                    values.append(_text(value))
            except TamvtError as error:
                values.append(error)
        return values

    async def take_side_key(self, session_id: str, name: str) -> str | None:
        """Return and delete the value beside the session: only one of several callers gets it."""
        async with self._deadline(session_id):
            return _text(await self._redis.getdel(key(session_id, name)))

    @property
    def _ttl_ms(self) -> int:
        return int(self._ttl / timedelta(milliseconds=1))

    async def _seal(self, session_id: str, masks: Sequence[FrameMasks]) -> dict[int, bytes]:
        seal = partial(seal_masks, session_id, masks, self.limits)
        return await run_aside(seal, nbytes=sum(len(o.counts) for m in masks for o in m.objects))

    async def _commit(
        self,
        before: Session | None,
        session: Session,
        *,
        masks: Mapping[int, bytes],
        records: Mapping[str, bytes],
        owner: str = "",
    ) -> Session:
        kept_from = max(session.kept_from, session.next_frame - self._kept_frames)
        session = replace(session, kept_from=kept_from)
        dropped = list(yield_dropped_snapshots(before, session))
        pruned = pruned_frames(before, session)
        arguments: Iterable[Any] = chain(
            (before.version, before.next_frame) if before else (0, 0),
            (secrets.token_hex(8), self._ttl_ms, pack_session(session)),
            (session.version, session.next_frame, kept_from, session.tenant),
            (session.reserved_bytes, owner),
            (len(masks), len(records), len(dropped), len(pruned)),
            *masks.items(),
            *records.items(),
            *dropped,
            pruned,
        )
        # decision 11: the token makes a second sending harmless.
        more = [STREAM_OWNER] if owner else []  # an absent key is refused while its slot moves
        answer = await self._send(lua.COMMIT, session.session_id, list(arguments), *more)
        check_status(answer[0], session.session_id, expected=answer[1])
        return replace(
            session,
            snapshots=tuple(replace(one, contents=None) for one in session.snapshots),
            stored_bytes=answer[2],
            expires_at=datetime.now(UTC) + self._ttl,
        )

    async def _send(
        self, script: lua.Script, session_id: str, arguments: Sequence[Any], *more: str
    ) -> Any:
        """Return what the script answers; send it once more after a lost connection."""
        keys = [key(session_id, part) for part in (*PARTS, *more)]
        async with self._deadline(session_id):
            try:
                return await run_script(self._redis, script, keys, arguments)
            except RedisConnectionError:
                return await run_script(self._redis, script, keys, arguments)

    @asynccontextmanager
    async def _deadline(self, session_id: str = "") -> AsyncIterator[None]:
        with translate_errors(session_id):
            async with asyncio.timeout(self._deadline_s):
                yield

    @staticmethod
    def _present(session_id: str, what: str, data: bytes | None) -> bytes:
        if data is None:
            raise CorruptSession(session_id, f"{what} is missing")
        return data


def _text(value: Value) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
