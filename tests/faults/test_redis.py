"""What else becomes of Redis: connections break, memory is full, a cluster's master ends."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.faults.gateways import gateways
from tests.faults.relays import relay_to
from tests.faults.sending import Sender, chunks_of, happening, start, undisturbed
from tests.faults.test_killed import disturb, restarted
from tests.support.redis_servers import running_cluster, running_redis
from tests.support.running import Api

ROOM_BYTES = 8_000  # for a clip or two


def test_connections_to_redis_that_break_lose_nothing(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    with (
        running_redis(tmp_path) as redis,
        relay_to(redis.port) as relay,
        gateways(1, toy_folder, redis_url=f"redis://127.0.0.1:{relay.port}") as (gateway,),
    ):
        sender = Sender([gateway], start(gateway.url))
        disturb(sender, seed, faults=4, fault=relay.break_connections)
        sender.check(gateway.url, undisturbed(api, chunks_of(seed)))
        assert set(sender.told) <= {"store-unavailable"}
        assert gateway.requests_in_flight() == 0


def test_a_network_to_redis_that_is_cut_is_told_and_survived(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    with (
        running_redis(tmp_path) as redis,
        relay_to(redis.port) as relay,
        gateways(1, toy_folder, redis_url=f"redis://127.0.0.1:{relay.port}") as (gateway,),
    ):

        def cut() -> None:
            relay.cut()
            time.sleep(0.5)
            relay.restore()

        sender = Sender([gateway], start(gateway.url))
        disturb(sender, seed, faults=2, fault=cut)
        sender.check(gateway.url, undisturbed(api, chunks_of(seed)))
        assert set(sender.told) <= {"store-unavailable"}


def test_a_redis_without_memory_refuses_whole_clips(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    chunks = chunks_of(seed, frames=48)
    with (
        running_redis(tmp_path, options={"maxmemory-policy": "noeviction"}) as redis,
        gateways(1, toy_folder, redis_url=redis.url) as (gateway,),
        redis.client() as client,
    ):
        sender = Sender([gateway], start(gateway.url))
        sender.send(chunks[0])
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used + ROOM_BYTES)
        refused = next(numbers for numbers in chunks[1:] if not sender.try_once(numbers))
        assert not sender.try_once(refused)
        assert set(sender.told) == {"store-full"}
        assert sender.stored(gateway.url) == list(sender.acknowledged.values())
        client.config_set("maxmemory", 0)
        for numbers in chunks[chunks.index(refused) :]:
            sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        assert set(sender.told) == {"store-full"}


def test_a_killed_master_of_a_cluster_loses_nothing(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    chosen = random.Random(seed)
    chunks = chunks_of(seed)
    with (
        running_cluster(tmp_path) as cluster,
        gateways(1, toy_folder, redis_url=cluster.url) as (gateway,),
    ):
        sender = Sender([gateway], start(gateway.url))
        owner = cluster.owner(f"tamvt:{{{sender.session}}}:session")
        struck = chosen.randrange(1, len(chunks))
        for number, numbers in enumerate(chunks):
            if number != struck:
                sender.send(numbers)
                continue
            usual_s = sender.seconds_a_frame * len(numbers)
            fault = restarted(owner, after_s=0.5)
            with happening(fault, after_s=chosen.uniform(0, usual_s)):
                sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        assert set(sender.told) <= {"store-unavailable"}
