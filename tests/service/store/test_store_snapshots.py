"""Snapshots in a real Redis: what they share stays as long as one of them needs it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from model.core.memory import Memory, MemoryFull
from service.errors import CorruptSession
from service.sessions.snapshots import SnapshotPolicy, add_clips, change_newest, fork
from service.store.commits import name_snapshot_fields
from service.store.records import Session, Snapshot, SnapshotContents, entry_field, name_frame_field
from service.store.session_store import SessionStore, new_session_id, open_store
from tests.service.store.test_session_store import append, entry_of, keys_of, masks_of, started

pytestmark = pytest.mark.anyio

KEPT_FRAMES = 12


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[SessionStore]:
    async with open_store(redis_url, ttl_s=60, kept_frames=KEPT_FRAMES) as opened:
        yield opened


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as opened:
        yield opened


async def fields_of(redis: Redis, session: Session, *, masks: bool = False) -> set[str]:
    """The fields of the session's records in Redis, or of its masks."""
    stored = await redis.hgetall(keys_of(session)[2 if masks else 1])
    return {name.decode() for name in stored if isinstance(name, bytes)}


async def entry_fields(redis: Redis, session: Session) -> list[bytes]:
    """The fields of the entries in Redis, without the records of snapshots."""
    records = await redis.hgetall(keys_of(session)[1])
    return sorted(name for name in records if isinstance(name, bytes) and name.isdigit())


async def test_evicted_entries_are_removed(store: SessionStore, redis: Redis) -> None:
    session = await append(store, await append(store, await started(store), frames=2), frames=2)
    assert await entry_fields(redis, session) == [b"0", b"3", b"4"]


async def test_the_newest_frame_is_kept_even_if_it_is_not_remembered(
    store: SessionStore, redis: Redis
) -> None:
    session = await append(store, await started(store, memory_size=1), frames=2)
    assert await store.entries(session, ["2"]) == (entry_of(2),)
    session = await append(store, session)
    assert await entry_fields(redis, session) == [b"0", b"3"]


async def clip(store: SessionStore, before: Session, policy: SnapshotPolicy) -> Session:
    """The session after a clip of one or two frames."""
    last = before.newest + random.Random(before.version).randint(1, 2)
    memory = before.memory.remember(last, before.object_ids)
    after = before.advanced(
        memory=memory,
        next_frame=last + 1,
        snapshots=add_clips(before, [(last, memory)], policy),
    )
    masks = [masks_of(frame) for frame in range(before.next_frame, last + 1)]
    return await store.append(before, after, masks=masks, entries={str(last): entry_of(last)})


async def correction(store: SessionStore, before: Session) -> Session:
    """The session after a correction of all its objects, or as it was where none can be pinned."""
    newest, version = before.newest, before.version + 1
    try:
        memory = before.memory.correct(
            newest, before.object_ids, given=before.object_ids, revision=version
        )
    except MemoryFull:
        return before
    after = before.advanced(memory=memory, next_frame=before.next_frame)
    after = replace(after, snapshots=change_newest(before, after, corrected=True))
    first = next(one for one in before.snapshots if one.frame == newest)
    return await store.append(
        before,
        after,
        masks=[masks_of(newest, clip=(version, version))],
        entries={entry_field(newest, version): entry_of(1000 * version + newest)},
        replaced=None if first.corrected or first.revision else masks_of(newest),
    )


@pytest.mark.parametrize("number", range(6))
async def test_redis_holds_just_what_the_snapshots_need(
    store: SessionStore, redis: Redis, number: int
) -> None:
    """After any clips and corrections: no record too many, none too few, every byte counted."""
    chance = random.Random(number)
    policy = SnapshotPolicy(clips=chance.randint(0, 3), spread=chance.randint(1, 4))
    session = await started(store, memory_size=chance.randint(1, 6))
    for _ in range(40):
        change = chance.random() < 0.3
        session = await (correction(store, session) if change else clip(store, session, policy))
        wanted: set[str] = set()
        for one in session.snapshots:
            contents = await store.snapshot(session, one)
            wanted |= {f"{one.name}.snapshot", f"{one.name}.fields"}
            wanted |= {f"{one.name}.masks"} if one.corrected else set()
            wanted |= set(name_snapshot_fields(one.frame, contents))
            assert (await store.snapshot_masks(session, one)).frame == one.frame
        assert await fields_of(redis, session) == wanted
        kept = {
            *range(session.kept_from, session.next_frame),
            *(o.frame for o in session.snapshots),
        }
        assert await fields_of(redis, session, masks=True) == {str(frame) for frame in kept}
        records = [await redis.hgetall(key) for key in keys_of(session)[1:]]
        assert session.stored_bytes == sum(len(data) for one in records for data in one.values())
        assert await store.load(session.session_id) == session
        assert (await store.load(session.session_id)).stored_bytes == session.stored_bytes
    assert session.kept_from > 0


@pytest.mark.parametrize("number", range(3))
async def test_a_fork_at_any_frame_has_all_that_it_goes_on_from(
    store: SessionStore, number: int
) -> None:
    chance, policy = random.Random(number), SnapshotPolicy(clips=2, spread=3)
    session = await started(store, memory_size=5)
    for _ in range(25):
        session = await clip(store, session, policy)
        if chance.random() < 0.3:
            session = await correction(store, session)
    for at in (None, *range(0, session.next_frame, 3)):
        new = await fork(session, at, store=store)
        assert new.next_frame <= session.next_frame if at is None else new.newest <= at
        assert len(await store.entries(new)) == len(new.memory.entries)
        field = name_frame_field(new.newest, new.memory)
        assert len(await store.entries(new, [field])) == 1
        (masks,) = await store.masks(new.session_id, new.newest, new.newest)
        assert masks.frame == new.newest
        assert await store.load(new.session_id) == new
        assert (await fork(new, 0, store=store)).newest == 0


async def test_a_snapshot_is_its_sessions_only(store: SessionStore, redis: Redis) -> None:
    one, other = [await append(store, await started(store)) for _ in range(2)]
    name = f"{one.snapshots[-1].name}.snapshot"
    stored = await redis.hgetall(keys_of(one)[1])
    await redis.hset(keys_of(other)[1], name, stored[name.encode()])
    with pytest.raises(CorruptSession):
        await store.snapshot(other, other.snapshots[-1])


async def test_a_models_state_is_kept_as_long_as_a_snapshot_needs_it(
    store: SessionStore, redis: Redis
) -> None:
    memory = Memory.start(0, [1], capacity=3)
    session = replace(
        await started(store, memory_size=3),
        session_id=new_session_id(),
        state="0.state",
        snapshots=(Snapshot(0, contents=SnapshotContents((1,), memory, "0.state")),),
    )
    session = await store.create(
        session, masks=[masks_of(0)], entries={"0": entry_of(0)}, states={"0.state": b"zero"}
    )
    copy = await fork(session, None, store=store)
    for frame in (1, 2):
        name = f"{frame}.state"
        after = replace(
            session.advanced(memory=session.memory.remember(frame, [1]), next_frame=frame + 1),
            state=name,
        )
        kept = SnapshotPolicy(clips=0, spread=1).thin(
            (*session.snapshots, Snapshot(frame, contents=after.contents))
        )
        session = await store.append(
            session,
            replace(after, snapshots=kept),
            masks=[masks_of(frame)],
            entries={str(frame): entry_of(frame)},
            states={name: b"state of %d" % frame},
        )
    loaded = await store.load(session.session_id)
    assert await store.states(loaded, ["0.state", "2.state"]) == (b"zero", b"state of 2")
    assert "1.state" not in await fields_of(redis, session)
    with pytest.raises(CorruptSession):
        await store.entries(loaded, ["2.state"])
    assert await store.states(await store.load(copy.session_id), [copy.state]) == (b"zero",)


@pytest.mark.parametrize(
    ("most", "nbytes", "kept"), [(1000, 10**6, 0), (70, 10**6, 101), (1000, 300, 121)]
)
async def test_a_fork_takes_a_bounded_number_and_size_of_masks(
    redis_url: str, most: int, nbytes: int, kept: int
) -> None:
    """Each of these masks has some 8 bytes, and 50 of them are read at once."""
    async with open_store(redis_url, ttl_s=60) as store:
        session = await append(store, await started(store), frames=170)
        new = await fork(session, None, store=store, most_masks=most, most_bytes=nbytes)
        assert new.kept_from == kept
        found = await store.masks(new.session_id, 0, 500)
        assert [masks.frame for masks in found] == list(range(kept, 171))
        assert found == await store.masks(session.session_id, kept, 170)
