"""A Redis that does not answer for a while, and an owner that wakes up too late."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.gateways import Gateway, gateways
from tests.faults.sending import Sender, append, chunks_of, happening, start, undisturbed
from tests.redis_servers import running_redis
from tests.running import Api, problem

PAUSED_S = 5.0
MOST_TRIES = 20


def test_a_redis_paused_for_five_seconds_is_waited_for_with_clear_answers(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    chunks = chunks_of(seed)
    chosen = random.Random(seed)
    with (
        running_redis(tmp_path) as redis,
        gateways(1, toy_folder, redis_url=redis.url, redis_deadline_s=1) as (gateway,),
    ):
        sender = Sender([gateway], start(gateway.url))
        for numbers in chunks[:2]:
            sender.send(numbers)

        def pause() -> None:
            redis.signal(signal.SIGSTOP)
            time.sleep(PAUSED_S)
            redis.signal(signal.SIGCONT)

        with happening(pause, after_s=chosen.uniform(0, 0.05)):
            for numbers in chunks[2:]:
                sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        assert set(sender.told) == {"store-unavailable"}
        # Each of them was told within the deadline, not at the end of the pause.
        assert sender.told["store-unavailable"] >= 3
        assert gateway.requests_in_flight() == 0


def test_a_slow_old_owner_cannot_write(tmp_path: Path, toy_folder: Path, api: Api) -> None:
    """A gateway stops in the middle of an append; another one does it; the first wakes up."""
    with (
        running_redis(tmp_path) as redis,
        gateways(2, toy_folder, redis_url=redis.url) as (slow, quick),
        ThreadPoolExecutor(1) as pool,
    ):
        refused = 0
        for attempt in range(MOST_TRIES):
            refused += overtaken(slow, quick, pool, api, after_s=0.01 * (attempt + 1))
            if refused:
                break
        assert refused, "the old owner was never caught in the middle"


def overtaken(
    slow: Gateway, quick: Gateway, pool: ThreadPoolExecutor, api: Api, *, after_s: float
) -> bool:
    """Whether the slow gateway's commit was refused because the quick one came first."""
    chunks = [range(1, 17), range(17, 19)]
    sender = Sender([quick], start(quick.url))
    answer = pool.submit(append, slow.url, sender.session, chunks[0])
    time.sleep(after_s)
    slow.signal(signal.SIGSTOP)
    for numbers in chunks:
        sender.send(numbers)
    slow.signal(signal.SIGCONT)
    late = answer.result()
    sender.check(slow.url, undisturbed(api, chunks))
    if late.status_code == 200:
        assert late.json()["frames"] == list(sender.acknowledged.values())[:16]
        return False
    assert problem(late) == (409, "conflict")
    assert late.json()["expected"] == 19
    return True
