"""Large records are sealed and read beside the event loop."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from service.server.workers import ASIDE_BYTES
from service.store import session_store
from service.store.session_store import EncodedEntry, SessionStore, open_store
from tests.service.store.test_session_store import masks_of, started

pytestmark = pytest.mark.anyio


async def test_only_large_records_leave_the_event_loop(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noting(name: str) -> None:
        real = getattr(session_store, name)

        def call(*given: object) -> object:
            threads.append(threading.current_thread())
            return real(*given)

        monkeypatch.setattr(session_store, name, call)

    for name in ("seal_masks", "unpack_page", "unpack_entries"):
        noting(name)
    async with open_store(redis_url, ttl_s=60) as store:
        await store_and_read(store, counts="c")
        assert set(threads) == {threading.main_thread()}
        threads.clear()
        await store_and_read(store, counts=ASIDE_BYTES * "c")
        # The small session before it was started beside the large append.
        assert threads.count(threading.main_thread()) == 1
        assert len(threads) > 3


async def store_and_read(store: SessionStore, *, counts: str) -> None:
    """Commit a frame with masks and an entry of this size, and read both."""
    begun = await started(store)
    large = masks_of(1)
    large = replace(large, objects=(replace(large.objects[0], counts=counts + "c"),))
    entry = EncodedEntry(b"frame", counts.encode() + b"c", (1,))
    memory = begun.memory.remember(1, [1])
    session = await store.append(
        begun, begun.advanced(memory=memory, next_frame=2), masks=[large], entries={"1": entry}
    )
    assert await store.masks(session.session_id, 1, 1) == (large,)
    assert entry in await store.entries(session)
