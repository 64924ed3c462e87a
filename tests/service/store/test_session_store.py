"""The session store on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from model.core.memory import Memory
from service.errors import (
    Conflict,
    CorruptSession,
    Misconfigured,
    StoreFull,
    StoreUnavailable,
    UnknownSession,
)
from service.local.private_redis import private_redis
from service.store.lua import COMMIT
from service.store.records import Snapshot, SnapshotContents
from service.store.session_store import (
    EncodedEntry,
    FrameMasks,
    ObjectMask,
    Session,
    SessionStore,
    new_session_id,
    open_store,
)
from tests.support.proxy import losing_one_answer
from tests.support.redis_servers import programs, version_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=programs(), ids=version_of)
async def redis_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """The URL of a real Redis of each version that is here."""
    folder = tmp_path_factory.mktemp("redis")
    async with private_redis(folder, program=request.param) as url:
        yield url


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[SessionStore]:
    async with open_store(redis_url, ttl_s=60, kept_frames=6) as opened:
        yield opened


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as opened:
        yield opened


def masks_of(frame: int, *, clip: tuple[int, int] | None = None) -> FrameMasks:
    mask = ObjectMask(1, f"counts{frame}", frame, (0, 0, frame, 1), 0.5, "visible")
    return FrameMasks(frame, clip or (frame, frame), digest=f"{frame:064x}", objects=(mask,))


def entry_of(frame: int) -> EncodedEntry:
    return EncodedEntry(b"frame %d" % frame, b"masks %d" % frame, (1,))


async def started(store: SessionStore, *, memory_size: int = 3) -> Session:
    memory = Memory.start(0, [1], capacity=memory_size)
    session = Session(
        session_id=new_session_id(),
        model="toy",
        weights_sha256="0" * 64,
        frame_size=(60, 90),
        model_size=(64, 96),
        object_ids=(1,),
        labels={1: "boat"},
        clip_length=2,
        memory_size=memory_size,
        memory=memory,
        next_frame=1,
        snapshots=(Snapshot(0, contents=SnapshotContents((1,), memory)),),
    )
    return await store.create(session, masks=[masks_of(0)], entries={"0": entry_of(0)})


async def append(store: SessionStore, before: Session, *, frames: int = 1) -> Session:
    """One more commit, in clips of one frame."""
    numbers = range(before.next_frame, before.next_frame + frames)
    memory = before.memory
    for frame in numbers:
        memory = memory.remember(frame, [1])
    now = Snapshot(numbers[-1], contents=SnapshotContents((1,), memory))
    return await store.append(
        before,
        before.advanced(memory=memory, next_frame=numbers[-1] + 1, snapshots=(now,)),
        masks=[masks_of(frame) for frame in numbers],
        entries={str(frame): entry_of(frame) for frame in numbers},
    )


def keys_of(session: Session) -> list[str]:
    parts = ("session", "entries", "masks")
    return [f"tamvt:{{{session.session_id}}}:{part}" for part in parts]


async def test_a_new_session_is_loaded_as_it_was_created(store: SessionStore) -> None:
    session = await started(store)
    assert await store.load(session.session_id) == session


async def test_a_session_says_when_it_expires(store: SessionStore) -> None:
    session = await started(store)
    loaded = await store.load(session.session_id)
    for expires_at in (session.expires_at, loaded.expires_at):
        assert abs(expires_at - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=5)


async def test_an_id_is_taken_only_once(store: SessionStore) -> None:
    session = await started(store)
    with pytest.raises(Conflict):
        await store.create(session, masks=[masks_of(0)], entries={"0": entry_of(0)})


async def test_an_append_advances_the_session(store: SessionStore) -> None:
    session = await append(store, await started(store), frames=2)
    assert (session.next_frame, session.version) == (3, 2)
    assert await store.load(session.session_id) == session


async def test_the_masks_of_a_range_come_in_order(store: SessionStore) -> None:
    session = await append(store, await started(store), frames=3)
    found = await store.masks(session.session_id, 1, 2)
    assert found == (masks_of(1), masks_of(2))


async def test_masks_that_are_not_committed_are_not_answered(store: SessionStore) -> None:
    session = await append(store, await started(store))
    assert await store.masks(session.session_id, 1, 50_000) == (masks_of(1),)
    assert await store.masks(session.session_id, 7, 9) == ()


async def test_the_entries_of_the_memory_come_in_its_order(store: SessionStore) -> None:
    session = await append(store, await append(store, await started(store), frames=2), frames=2)
    assert [entry.frame for entry in session.memory.entries] == [0, 3, 4]
    assert await store.entries(session) == (entry_of(0), entry_of(3), entry_of(4))


async def test_of_two_appends_at_once_one_wins(store: SessionStore) -> None:
    session = await started(store)
    answers = await asyncio.gather(
        append(store, session), append(store, session, frames=2), return_exceptions=True
    )
    winner = next(answer for answer in answers if isinstance(answer, Session))
    loser = next(answer for answer in answers if isinstance(answer, Conflict))
    assert loser.expected == winner.next_frame
    assert await store.load(session.session_id) == winner


async def test_an_owner_of_an_old_version_cannot_write(store: SessionStore) -> None:
    session = await started(store)
    rewritten = session.advanced(memory=session.memory, next_frame=session.next_frame)
    await store.append(session, rewritten, masks=[masks_of(0)], entries={})
    with pytest.raises(Conflict) as caught:
        await append(store, session)
    assert caught.value.expected == 1


async def test_a_refused_append_changes_nothing(store: SessionStore, redis: Redis) -> None:
    session = await started(store)
    await append(store, session)
    before = [await redis.hgetall(key) for key in keys_of(session)]
    with pytest.raises(Conflict):
        await append(store, session, frames=3)
    assert [await redis.hgetall(key) for key in keys_of(session)] == before


async def test_entries_are_not_read_from_another_version(store: SessionStore) -> None:
    session = await started(store)
    await append(store, session)
    with pytest.raises(Conflict):
        await store.entries(session)


async def test_only_the_newest_masks_are_kept(store: SessionStore, redis: Redis) -> None:
    session = await append(store, await started(store), frames=5)
    assert session.kept_from == 0
    session = await append(store, session, frames=4)
    assert session.kept_from == 4
    found = await store.masks(session.session_id, 0, 9)
    assert [masks.frame for masks in found] == [4, 5, 6, 7, 8, 9]
    assert await redis.hlen(keys_of(session)[2]) == 6


async def test_more_masks_than_one_read_takes_come_whole(redis_url: str) -> None:
    async with open_store(redis_url, ttl_s=60) as store:
        session = await append(store, await started(store), frames=2100)
        found = await store.masks(session.session_id, 1, 2100)
    assert [masks.frame for masks in found] == list(range(1, 2101))


async def test_a_deleted_session_is_unknown(store: SessionStore, redis: Redis) -> None:
    session = await started(store)
    await store.delete(session.session_id)
    assert await redis.exists(*keys_of(session)) == 0
    for attempt in (
        store.load(session.session_id),
        store.masks(session.session_id, 0, 1),
        store.entries(session),
        store.delete(session.session_id),
        append(store, session),
    ):
        with pytest.raises(UnknownSession):
            await attempt


async def test_an_expired_session_is_unknown(redis_url: str) -> None:
    async with open_store(redis_url, ttl_s=0.2) as store:
        session = await started(store)
        await asyncio.sleep(0.3)
        with pytest.raises(UnknownSession):
            await store.load(session.session_id)


async def test_a_session_that_is_used_lives_on(redis_url: str, redis: Redis) -> None:
    async with open_store(redis_url, ttl_s=3) as store:
        session = await started(store)
        for _ in range(5):
            await asyncio.sleep(0.7)
            await store.load(session.session_id)
        assert await redis.exists(*keys_of(session)) == 3


async def test_every_key_expires(store: SessionStore, redis: Redis) -> None:
    session = await append(store, await started(store))
    for key in keys_of(session):
        assert 55 <= await redis.ttl(key) <= 60


async def test_a_missing_entry_is_corruption(store: SessionStore, redis: Redis) -> None:
    session = await started(store)
    await redis.hdel(keys_of(session)[1], "0")
    with pytest.raises(CorruptSession) as caught:
        await store.entries(session)
    assert caught.value.session_id == session.session_id


async def test_a_missing_mask_is_corruption(store: SessionStore, redis: Redis) -> None:
    session = await append(store, await started(store))
    await redis.hdel(keys_of(session)[2], "0")
    with pytest.raises(CorruptSession):
        await store.masks(session.session_id, 0, 1)


@pytest.mark.parametrize("field", ["state", "next_frame", "version", "kept_from"])
async def test_a_changed_field_is_corruption(store: SessionStore, redis: Redis, field: str) -> None:
    session = await append(store, await started(store))
    await redis.hset(keys_of(session)[0], field, "7")
    with pytest.raises(CorruptSession):
        await store.load(session.session_id)


async def test_a_missing_state_is_corruption(store: SessionStore, redis: Redis) -> None:
    session = await started(store)
    await redis.hdel(keys_of(session)[0], "state")
    with pytest.raises(CorruptSession):
        await store.load(session.session_id)


async def test_a_key_of_another_type_is_corruption(store: SessionStore, redis: Redis) -> None:
    session = await started(store)
    await redis.set(keys_of(session)[0], "a string")
    with pytest.raises(CorruptSession):
        await store.load(session.session_id)


async def test_another_session_s_records_are_never_answered(
    store: SessionStore, redis: Redis
) -> None:
    mine, other = await started(store), await started(store)
    for key, copied in zip(keys_of(mine), keys_of(other), strict=True):
        await redis.copy(copied, key, replace=True)
    for attempt in (store.load(mine.session_id), store.masks(mine.session_id, 0, 0)):
        with pytest.raises(CorruptSession):
            await attempt


async def test_a_commit_sent_again_is_the_same_commit(redis_url: str, store: SessionStore) -> None:
    session = await started(store)
    async with (
        losing_one_answer(redis_url, to=COMMIT.sha) as url,
        open_store(url, ttl_s=60) as cut,
    ):
        committed = await append(cut, session)
    assert committed.next_frame == 2
    assert await store.load(session.session_id) == committed


async def test_a_paused_redis_is_unavailable_within_the_deadline(
    redis_url: str, redis: Redis, store: SessionStore
) -> None:
    session = await started(store)
    async with open_store(redis_url, ttl_s=60, deadline_s=0.2) as hurried, paused(redis):
        with pytest.raises(StoreUnavailable):
            await append(hurried, session)
    assert (await store.load(session.session_id)).next_frame in (1, 2)


@asynccontextmanager
async def paused(redis: Redis) -> AsyncIterator[None]:
    """While inside, nothing that writes is done: far longer than anybody waits."""
    await redis.client_pause(100_000, all=False)
    try:
        yield
    finally:
        await redis.client_unpause()


async def test_an_answer_of_a_cancelled_command_is_not_taken_for_another_s(
    redis_url: str, redis: Redis
) -> None:
    async with open_store(redis_url, ttl_s=60, max_connections=1) as store:
        first, second = await started(store), await started(store)
        async with paused(redis):
            task = asyncio.create_task(store.load(first.session_id))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await store.load(second.session_id) == second


async def test_a_full_redis_refuses_an_append_whole(store: SessionStore, redis: Redis) -> None:
    session = await started(store)
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreFull):
            await append(store, session)
    finally:
        await redis.config_set("maxmemory", "0")
    assert await store.load(session.session_id) == session


async def test_more_requests_than_connections_wait_for_their_turn(redis_url: str) -> None:
    async with open_store(redis_url, ttl_s=60, max_connections=2) as store:
        session = await started(store)
        loaded = await asyncio.gather(*(store.load(session.session_id) for _ in range(50)))
    assert loaded == [session] * 50


async def test_scripts_come_back_after_redis_forgot_them(store: SessionStore, redis: Redis) -> None:
    session = await started(store)
    await redis.script_flush()
    assert await store.load(session.session_id) == session


async def test_sessions_survive_a_restart_of_redis(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as url, open_store(url, ttl_s=60) as store:
        session = await append(store, await started(store))
    async with private_redis(tmp_path) as url, open_store(url, ttl_s=60) as store:
        assert await store.load(session.session_id) == session


async def test_the_store_works_again_when_redis_is_back(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        url = await first.enter_async_context(private_redis(tmp_path))
        store = await stack.enter_async_context(open_store(url, ttl_s=60))
        session = await started(store)
        await first.aclose()
        with pytest.raises(StoreUnavailable):
            await store.ping()
        await stack.enter_async_context(private_redis(tmp_path))
        assert await append(store, session) == await store.load(session.session_id)


async def test_a_store_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with open_store(f"unix://{tmp_path}/none.sock", ttl_s=60) as store:
        with pytest.raises(StoreUnavailable):
            await store.load("any")


async def test_an_address_that_is_none_is_misconfigured() -> None:
    with pytest.raises(Misconfigured):
        async with open_store("http://example.org", ttl_s=60):
            pass
