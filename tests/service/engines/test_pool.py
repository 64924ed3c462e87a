"""The order in which clips of several tenants get the model, and how long they wait."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future

import pytest

from service.access.admission import Admission
from service.engines.inference import Inference
from service.engines.pool import FairQueue, Pool, Work, served_tenant
from service.errors import Overloaded

pytestmark = pytest.mark.anyio


def work(tenant: str) -> Work:
    return Work(tenant, lambda _: None, Inference(), Future())


def served(queue: FairQueue, count: int, *, seconds: dict[str, float] | None = None) -> list[str]:
    """Whose work is taken, one after the other."""
    order = []
    for _ in range(count):
        order.append(queue.take().tenant)
        queue.charge(order[-1], (seconds or {}).get(order[-1], 1.0))
    return order


def test_one_that_sends_five_times_as_much_waits_for_itself() -> None:
    queue = FairQueue()
    for _ in range(50):
        queue.add(work("greedy"))
    for _ in range(10):
        queue.add(work("modest"))
    assert Counter(served(queue, 20)) == {"greedy": 10, "modest": 10}
    assert set(served(queue, 40)) == {"greedy"}


def test_seconds_count_and_not_clips() -> None:
    queue = FairQueue()
    for tenant in ("long", "short"):
        for _ in range(100):
            queue.add(work(tenant))
    counts = Counter(served(queue, 60, seconds={"long": 4.0, "short": 1.0}))
    assert counts["short"] / counts["long"] == pytest.approx(4.0, rel=0.2)


def test_one_that_was_away_has_saved_nothing_up() -> None:
    queue = FairQueue()
    for _ in range(100):
        queue.add(work("busy"))
    served(queue, 50)
    for _ in range(10):
        queue.add(work("back"))
    order = served(queue, 10)
    assert 4 <= order.count("back") <= 6


def test_the_work_of_one_tenant_stays_in_order() -> None:
    queue = FairQueue()
    mine = [work("ann") for _ in range(5)]
    for each in mine:
        queue.add(each)
    assert [queue.take() for _ in mine] == mine


async def test_a_full_queue_of_one_tenant_keeps_no_other_out() -> None:
    pool = Pool(workers=1, queue=2, deadline_s=60)
    gate = threading.Event()

    async def run(tenant: str) -> bool:
        served_tenant.set(tenant)
        return await pool.run(lambda _: gate.wait(60))

    tasks = [asyncio.create_task(run("greedy")) for _ in range(3)]
    await asyncio.sleep(0.02)
    with pytest.raises(Overloaded):
        await asyncio.create_task(run("greedy"))
    tasks.append(asyncio.create_task(run("modest")))
    await asyncio.sleep(0.02)
    gate.set()
    assert all(await asyncio.gather(*tasks))
    pool.close()


async def test_the_queues_wait_is_measured_and_keeps_new_sessions_out() -> None:
    pool = Pool(workers=1, queue=2, deadline_s=60)
    gate = threading.Event()
    assert pool.queue_s == 0
    tasks = [asyncio.create_task(pool.run(lambda _: gate.wait(60))) for _ in range(2)]
    await asyncio.sleep(0.3)
    assert pool.queue_s > 0.1, "what waits now"
    with pytest.raises(Overloaded) as caught:
        Admission(max_requests=1, max_bytes=1, max_queue_s=0.1).check_queue(pool.queue_s)
    assert caught.value.retry_after_s >= 1
    Admission(max_requests=1, max_bytes=1, max_queue_s=1e9).check_queue(pool.queue_s)
    Admission(max_requests=1, max_bytes=1).check_queue(1e9)
    gate.set()
    await asyncio.gather(*tasks)
    assert pool.queue_s > 0.1, "what waited last"
    pool.close()
