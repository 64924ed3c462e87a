"""How much Redis is given and keeps: bounded, however long the video."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import cv2
import numpy as np
import pytest
from redis.asyncio import Redis

from model.core.masks import pack_soft_masks
from model.core.memory import Memory
from service.sessions.snapshots import SnapshotPolicy, add_clips
from service.store.records import (
    EncodedEntry,
    FrameMasks,
    ObjectMask,
    Session,
    Snapshot,
    SnapshotContents,
)
from service.store.session_store import SessionStore, new_session_id, open_store

pytestmark = pytest.mark.anyio

SIZE = (256, 448)
MEMORY_SIZE, KEPT_FRAMES = 9, 60
POLICY = SnapshotPolicy(clips=16, spread=2)
JPEG_BYTES = 100_000  # the largest that is stored as it came
WRITTEN_PER_CLIP, KEPT_PER_MEMORY = 150_000, 2_000_000
COUNTS = "x" * 600  # a run-length encoding of a detailed outline


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as opened:
        yield opened


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[SessionStore]:
    async with open_store(redis_url, ttl_s=60, kept_frames=KEPT_FRAMES) as opened:
        yield opened


def entry() -> EncodedEntry:
    """The largest frame, and a mask whose edges are soft and rough."""
    noise = np.random.default_rng(0).random(SIZE, dtype=np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), sigmaX=12)
    soft = np.clip((soft - soft.mean()) / soft.std() * 100 + 128, 0, 255).astype(np.uint8)
    return EncodedEntry(random.Random(0).randbytes(JPEG_BYTES), pack_soft_masks(soft[None]), (1,))


def masks_of(frame: int, clip: tuple[int, int]) -> FrameMasks:
    item = ObjectMask(1, COUNTS, 5000, (1, 2, 3, 4), 0.9876, "visible")
    return FrameMasks(frame, clip, digest="ab" * 32, objects=(item,))


async def started(store: SessionStore) -> Session:
    memory = Memory.start(0, [1], capacity=MEMORY_SIZE)
    session = Session(
        session_id=new_session_id(),
        model="toy",
        weights_sha256="0" * 64,
        frame_size=(480, 854),
        model_size=SIZE,
        object_ids=(1,),
        labels={},
        clip_length=2,
        memory_size=MEMORY_SIZE,
        memory=memory,
        next_frame=1,
        snapshots=(Snapshot(0, contents=SnapshotContents((1,), memory)),),
    )
    return await store.create(session, masks=[masks_of(0, (0, 0))], entries={"0": entry()})


async def append_clip(store: SessionStore, before: Session, stored: EncodedEntry) -> Session:
    first, last = before.next_frame, before.next_frame + 1
    memory = before.memory.remember(last, [1])
    snapshots = add_clips(before, [(last, memory)], POLICY)
    after = before.advanced(memory=memory, next_frame=last + 1, snapshots=snapshots)
    masks = [masks_of(frame, (first, last)) for frame in (first, last)]
    return await store.append(before, after, masks=masks, entries={str(last): stored})


async def received_bytes(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_net_input_bytes"])


async def size_of(redis: Redis, key: str) -> int:
    """Bytes of a key in Redis's memory, all of it counted."""
    return int(await redis.memory_usage(key, samples=0) or 0)


async def test_a_session_writes_and_keeps_little_however_long_it_is(
    store: SessionStore, redis: Redis
) -> None:
    stored = entry()
    session = await started(store)
    keys = [f"tamvt:{{{session.session_id}}}:{part}" for part in ("session", "entries", "masks")]
    kept: list[int] = []
    clips = 60
    before = await received_bytes(redis)
    for _ in range(clips):
        session = await append_clip(store, session, stored)
        kept.append(sum([await size_of(redis, key) for key in keys]))
    assert (await received_bytes(redis) - before) / clips <= WRITTEN_PER_CLIP
    fields = [str(e.frame) for e in session.memory.entries]
    memory = sum([await redis.hstrlen(keys[1], field) for field in fields])
    assert memory + await size_of(redis, keys[0]) <= KEPT_PER_MEMORY
    # What a roll back needs comes on top, and is bounded by itself.
    records = await redis.hgetall(keys[1])
    entries = sum(field.isdigit() for field in records)
    older = POLICY.spread * (MEMORY_SIZE - 1)
    assert entries <= MEMORY_SIZE + POLICY.clips + older
    assert len(records) <= entries + 2 * (1 + POLICY.clips + POLICY.spread)
    masks = await redis.hgetall(keys[2])
    assert session.stored_bytes == sum(map(len, (*records.values(), *masks.values())))
    assert max(kept[-20:]) <= 1.05 * max(kept[30:40])
