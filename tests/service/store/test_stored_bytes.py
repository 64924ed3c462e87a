"""How many bytes a frame, a session and a tenant may have stored: in a real Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from model.core.memory import Memory
from service.errors import Conflict, MasksTooLarge, SessionTooLarge, TooMany
from service.sessions.snapshots import SnapshotPolicy, add_clips
from service.store.records import (
    EncodedEntry,
    FrameMasks,
    ObjectMask,
    Session,
    Snapshot,
    SnapshotContents,
    StoreLimits,
)
from service.store.session_store import SessionStore, new_session_id, open_store

pytestmark = pytest.mark.anyio

KB = 1000
POLICY = SnapshotPolicy(clips=0, spread=1)


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test knows."""
    return secrets.token_hex(4)


@asynccontextmanager
async def opened(
    redis_url: str, *, ttl_s: float = 60, deadline_s: float = 5.0, **limits: int
) -> AsyncIterator[SessionStore]:
    async with open_store(
        redis_url, ttl_s=ttl_s, deadline_s=deadline_s, limits=StoreLimits(**limits)
    ) as store:
        yield store


def masks_of(frame: int, *, nbytes: int = 10) -> FrameMasks:
    mask = ObjectMask(1, "x" * nbytes, 1, (0, 0, 1, 1), 0.5, "visible")
    return FrameMasks(frame, (frame, frame), digest="0" * 64, objects=(mask,))


async def started(store: SessionStore, tenant: str, *, nbytes: int = 50 * KB) -> Session:
    """A new session whose reference takes so many bytes."""
    memory = Memory.start(0, [1], capacity=3)
    session = Session(
        session_id=new_session_id(),
        model="toy",
        weights_sha256="0" * 64,
        frame_size=(60, 90),
        model_size=(64, 96),
        object_ids=(1,),
        labels={},
        clip_length=2,
        memory_size=3,
        memory=memory,
        next_frame=1,
        tenant=tenant,
        snapshots=(Snapshot(0, contents=SnapshotContents((1,), memory)),),
    )
    entry = EncodedEntry(bytes(nbytes), b"masks", (1,))
    return await store.create(session, masks=[masks_of(0)], entries={"0": entry})


async def append(
    store: SessionStore, before: Session, *, nbytes: int = 10, mask_bytes: int = 10
) -> Session:
    """The session after a clip of one frame, whose entry takes so many bytes."""
    frame = before.next_frame
    memory = before.memory.remember(frame, [1])
    snapshots = add_clips(before, [(frame, memory)], POLICY)
    after = before.advanced(memory=memory, next_frame=frame + 1, snapshots=snapshots)
    entry = EncodedEntry(bytes(nbytes), b"masks", (1,))
    masks = [masks_of(frame, nbytes=mask_bytes)]
    return await store.append(before, after, masks=masks, entries={str(frame): entry})


async def test_masks_of_a_frame_that_take_too_many_bytes_are_refused(
    redis_url: str, tenant: str
) -> None:
    async with opened(redis_url, frame_masks_bytes=2 * KB) as store:
        session = await append(store, await started(store, tenant), mask_bytes=KB)
        with pytest.raises(MasksTooLarge, match=r"frame 2 take .* may take 2000") as caught:
            await append(store, session, mask_bytes=3 * KB)
        assert caught.value.limit == 2 * KB
        assert await store.load(session.session_id, tenant=tenant) == session


async def test_a_session_that_would_take_too_many_bytes_stays_as_it_is(
    redis_url: str, tenant: str
) -> None:
    async with opened(redis_url, session_bytes=100 * KB) as store:
        session = await append(store, await started(store, tenant), nbytes=30 * KB)
        with pytest.raises(SessionTooLarge, match="may take 100000"):
            await append(store, session, nbytes=30 * KB)
        assert await store.load(session.session_id, tenant=tenant) == session
        assert (await append(store, session)).next_frame == session.next_frame + 1
        with pytest.raises(SessionTooLarge):
            await started(store, tenant, nbytes=101 * KB)


async def test_a_session_goes_on_for_ever_in_the_bytes_that_it_needs(
    redis_url: str, tenant: str
) -> None:
    """What is evicted counts no longer."""
    async with opened(redis_url, session_bytes=200 * KB, tenant_bytes=200 * KB) as store:
        session = await started(store, tenant)
        for _ in range(20):
            session = await append(store, session, nbytes=20 * KB)
        assert session.stored_bytes < 200 * KB


async def test_the_bytes_of_a_tenants_sessions_are_counted_together(
    redis_url: str, tenant: str
) -> None:
    async with (
        opened(redis_url, tenant_bytes=200 * KB) as one,
        opened(redis_url, tenant_bytes=200 * KB) as other,
    ):
        sessions = [await started(store, tenant) for store in (one, other, one)]
        with pytest.raises(TooMany, match="200000 bytes") as caught:
            await started(other, tenant)
        assert caught.value.limit == 200 * KB
        await started(other, f"{tenant} elsewhere")
        await other.delete(sessions[0].session_id, tenant=tenant)
        await started(one, tenant)


async def test_a_session_that_grows_counts_as_it_grows(redis_url: str, tenant: str) -> None:
    async with opened(redis_url, tenant_bytes=200 * KB) as store:
        other, session = await started(store, tenant), await started(store, tenant)
        session = await append(store, session, nbytes=60 * KB)
        with pytest.raises(TooMany):
            await append(store, session, nbytes=60 * KB)
        assert await store.load(session.session_id, tenant=tenant) == session
        await store.delete(other.session_id, tenant=tenant)
        await append(store, session, nbytes=60 * KB)


async def test_bytes_of_sessions_that_expired_count_no_longer(redis_url: str, tenant: str) -> None:
    async with opened(redis_url, ttl_s=0.3, deadline_s=0.5, tenant_bytes=200 * KB) as store:
        for _ in range(3):
            await started(store, tenant)
        await asyncio.sleep(1.2)
        for _ in range(3):
            await started(store, tenant)
        async with Redis.from_url(redis_url) as redis:
            counted = await redis.hgetall(f"tamvt:{{tenant:{tenant}}}:bytes")
        total = int(counted.pop(b"total"))
        assert total == sum(map(int, counted.values()))
        assert len(counted) == 3


async def test_a_start_that_is_refused_reserves_nothing(redis_url: str, tenant: str) -> None:
    async with opened(redis_url, deadline_s=0.2, tenant_bytes=140 * KB) as store:
        session = await started(store, tenant)
        for _ in range(3):
            with pytest.raises(Conflict):
                await store.create(session, masks=[masks_of(0)], entries={})
        await started(store, tenant)


async def test_most_commits_ask_for_no_bytes(redis_url: str, tenant: str) -> None:
    async with opened(redis_url, tenant_bytes=10_000 * KB) as store:
        session = await started(store, tenant)
        reserved = {session.reserved_bytes}
        for _ in range(30):
            session = await append(store, session, nbytes=KB, mask_bytes=KB)
            reserved.add(session.reserved_bytes)
        loaded = await store.load(session.session_id, tenant=tenant)
        assert loaded.reserved_bytes == session.reserved_bytes >= session.stored_bytes
        assert len(reserved) <= 2
