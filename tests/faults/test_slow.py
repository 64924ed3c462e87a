"""A Redis that does not answer for a while."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from tests.faults.gateways import gateways
from tests.faults.sending import Sender, chunks_of, happening, start, undisturbed
from tests.support.redis_servers import running_redis, wait_until
from tests.support.running import Api

PAUSED_S = 5.0
TOLD = 3


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
            # Each was told within the deadline, not at the end of the pause.
            told = "store-unavailable"
            wait_until(lambda: sender.told[told] >= TOLD, what="answers during the pause")
            redis.signal(signal.SIGCONT)

        with happening(pause, after_s=chosen.uniform(0, 0.05)):
            for numbers in chunks[2:]:
                sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        assert set(sender.told) == {"store-unavailable"}
        assert gateway.requests_in_flight() == 0
