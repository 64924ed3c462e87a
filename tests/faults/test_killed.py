"""kill -9, in the middle of an append, of the gateway and of Redis."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.gateways import Gateway, gateways
from tests.faults.sending import Sender, chunks_of, happening, start, undisturbed
from tests.support.redis_servers import RedisServer, running_redis, wait_until
from tests.support.running import Api


def disturb(sender: Sender, seed: int, *, faults: int, fault: Callable[[], None]) -> None:
    """Sends the video; the fault happens at some moment of so many of its appends."""
    chosen = random.Random(seed)
    chunks = chunks_of(seed)
    struck = chosen.sample(range(1, len(chunks)), faults)
    for number, numbers in enumerate(chunks):
        if number not in struck:
            sender.send(numbers)
            continue
        usual_s = sender.seconds_a_frame * len(numbers)
        with happening(fault, after_s=chosen.uniform(0, usual_s)):
            sender.send(numbers)


def restarted(thing: Gateway | RedisServer, *, after_s: float = 0.0) -> Callable[[], None]:
    """A fault: the process is killed, and some time later started again."""

    def fault() -> None:
        thing.kill()
        time.sleep(after_s)
        thing.start()

    return fault


def test_a_killed_gateway_loses_nothing_and_another_goes_on(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    with (
        running_redis(tmp_path) as redis,
        gateways(2, toy_folder, redis_url=redis.url) as (first, second),
    ):
        sender = Sender([first, second], start(second.url))
        disturb(sender, seed, faults=2, fault=restarted(first))
        sender.check(second.url, undisturbed(api, chunks_of(seed)))
        assert second.requests_in_flight() == 0
        with redis.client() as client:

            def is_each_known() -> bool:
                """Whether those of the killed ones are gone: two gateways' are left, and this."""
                known = first.connections(redis.port) + second.connections(redis.port) + 1
                return int(client.info("clients")["connected_clients"]) == known

            wait_until(is_each_known, what="the end of the killed gateways' connections")


def test_a_killed_service_finds_everything_in_its_folder_again(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    with gateways(1, toy_folder, state=tmp_path / "state") as (gateway,):
        sender = Sender([gateway], start(gateway.url))
        disturb(sender, seed, faults=1, fault=restarted(gateway))
        sender.check(gateway.url, undisturbed(api, chunks_of(seed)))


def test_a_killed_redis_loses_nothing_that_was_acknowledged(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    with (
        running_redis(tmp_path) as redis,
        gateways(1, toy_folder, redis_url=redis.url) as (gateway,),
    ):
        sender = Sender([gateway], start(gateway.url))
        open_files = gateway.open_files(apart_from=[redis.port])
        disturb(sender, seed, faults=3, fault=restarted(redis, after_s=0.2))
        sender.check(gateway.url, undisturbed(api, chunks_of(seed)))
        assert set(sender.told) <= {"store-unavailable"}
        wait_until(
            lambda: gateway.open_files(apart_from=[redis.port]) == open_files,
            what="the end of what each restart has opened",
        )
        assert gateway.requests_in_flight() == 0


def test_a_killed_private_redis_is_started_again(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    with gateways(1, toy_folder, state=tmp_path / "state") as (gateway,):

        def kill_redis() -> None:
            for child in gateway.children():
                child.send_signal(signal.SIGKILL)

        sender = Sender([gateway], start(gateway.url))
        disturb(sender, seed, faults=2, fault=kill_redis)
        sender.check(gateway.url, undisturbed(api, chunks_of(seed)))
        assert set(sender.told) <= {"store-unavailable"}
