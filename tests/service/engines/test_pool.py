"""The order in which clips of several tenants get the model, and how long they wait."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future

import pytest

from service.access.admission import Admission
from service.engines.inference import Inference
from service.engines.pool import SMOOTHING, FairQueue, Pool, Work, served_tenant
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


async def test_one_waits_for_its_own_work_and_for_one_piece_of_each_other() -> None:
    queue = FairQueue()
    queue.add(work("busy"))
    assert served(queue, 1, seconds={"busy": 5.0}) == ["busy"]
    usual_s = 5.0 * SMOOTHING
    assert queue.estimate_wait_s("new") == 0
    for tenant in ("greedy", "greedy", "modest"):
        queue.add(work(tenant))
    for each in queue.clear():
        each.since_s -= 60
        queue.add(each)
    assert queue.estimate_wait_s("new") == pytest.approx(2 * usual_s)
    assert queue.estimate_wait_s("greedy") >= 60
    assert queue.take().tenant == "greedy"
    assert queue.take().tenant == "modest"
    assert queue.estimate_wait_s("modest") >= 60, "what waited last"
    assert queue.estimate_wait_s("new") == pytest.approx(usual_s)


async def test_work_that_is_cancelled_leaves_the_queue_and_costs_nothing() -> None:
    pool = Pool(workers=1, queue=2, deadline_s=60)
    gate, ran = threading.Event(), threading.Event()
    first = asyncio.create_task(pool.run(lambda _: gate.wait(60)))
    await asyncio.sleep(0.02)
    for _ in range(10):  # more than may wait
        late = asyncio.create_task(pool.run(lambda _: ran.set()))
        await asyncio.sleep(0)
        assert pool.waiting == 1
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        assert pool.waiting == 0
    waits_s = pool.estimate_wait_s("")
    await asyncio.sleep(0.02)
    assert pool.estimate_wait_s("") <= waits_s, "no work grows older"
    gate.set()
    assert await first
    usual = await asyncio.gather(*(pool.run(lambda _: 7) for _ in range(3)))
    assert usual == [7, 7, 7]
    assert not ran.is_set()
    pool.close()


def test_what_was_taken_and_did_not_run_leaves_the_usual_time_as_it_is() -> None:
    queue = FairQueue()
    for _ in range(3):
        queue.add(work("ann"))
    served(queue, 1, seconds={"ann": 5.0})
    usual_s = queue.estimate_wait_s("ben")
    assert usual_s > 0
    queue.take()
    queue.refund("ann")
    assert queue.estimate_wait_s("ben") == usual_s
    queue.add(work("ben"))  # both were served as much, so the first by age is next
    assert queue.take().tenant == "ann"


def test_two_threads_get_through_a_queue_in_half_the_time() -> None:
    waits_s = []
    for workers in (1, 2):
        queue = FairQueue(workers=workers)
        queue.add(work("ann"))
        served(queue, 1, seconds={"ann": 4.0})
        queue.add(work("ben"))
        waits_s.append(queue.estimate_wait_s("cas"))
    assert waits_s[1] == waits_s[0] / 2 > 0


async def test_the_queues_wait_is_measured_and_keeps_new_sessions_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.engines.pool.REMEMBERED_S", 600.0)  # a busy machine is slow
    pool = Pool(workers=1, queue=2, deadline_s=60)
    gate = threading.Event()
    assert pool.estimate_wait_s("") == 0
    tasks = [asyncio.create_task(pool.run(lambda _: gate.wait(60))) for _ in range(2)]
    try:
        await asyncio.sleep(0.3)
        assert pool.estimate_wait_s("") > 0.1, "what waits now"
        with pytest.raises(Overloaded) as caught:
            Admission(max_requests=1, max_bytes=1, max_queue_s=0.1).check_queue(
                pool.estimate_wait_s("")
            )
        assert caught.value.retry_after_s >= 1
        patient = Admission(max_requests=1, max_bytes=1, max_queue_s=1e9)
        patient.check_queue(pool.estimate_wait_s(""))
        Admission(max_requests=1, max_bytes=1).check_queue(1e9)
    finally:
        gate.set()
        await asyncio.gather(*tasks)
        pool.close()
    assert pool.estimate_wait_s("") > 0.1, "what waited last"
