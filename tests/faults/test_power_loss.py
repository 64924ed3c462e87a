"""The machine loses its power, or its disk rots, under Redis."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from redis.exceptions import RedisError

from tests.faults.gateways import Gateway, gateways
from tests.faults.sending import Sender, append, chunks_of, happening, start, undisturbed
from tests.support.power import power_of
from tests.support.redis_servers import RedisServer, running_redis, wait_until
from tests.support.running import PATIENCE_S, Api, problem

FLIPS = 6  # of each seed
SENT = range(1, 7)


def test_a_loss_of_power_takes_nothing_that_was_acknowledged(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    chunks, chosen = chunks_of(seed), random.Random(seed)
    power = power_of(tmp_path / "state", tmp_path / "power")
    struck = chosen.sample(range(1, len(chunks)), 2)
    with gateways(1, toy_folder, state=power.kept) as (gateway,):
        gateway.stop()
        shutil.rmtree(power.kept)
        gateway.settings = {**gateway.settings, **power.environment}
        gateway.start()
        sender = Sender([gateway], start(gateway.url))

        def lose_power() -> None:
            gateway.signal(signal.SIGSTOP)  # otherwise it starts its Redis again
            for child in gateway.children():
                child.kill()
            gateway.kill()
            power.lose()
            gateway.start()

        for number, numbers in enumerate(chunks):
            usual_s = sender.seconds_a_frame * len(numbers)
            if number not in struck:
                sender.send(numbers)
                continue
            with happening(lose_power, after_s=chosen.uniform(0, usual_s)):
                sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        assert set(sender.told) <= {"gone", "store-unavailable"}


def test_with_everysec_a_loss_of_power_takes_the_end_only(
    seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    chunks = chunks_of(seed, frames=48)
    power = power_of(tmp_path / "redis", tmp_path / "power")
    options = {"appendfsync": "everysec"}
    with (
        running_redis(power.kept, options=options, environment=power.environment) as redis,
        gateways(1, toy_folder, redis_url=redis.url) as (gateway,),
    ):
        session = start(gateway.url)
        sender, sent_at = Sender([gateway], session), {}
        for number, numbers in enumerate(chunks[:-1]):
            sender.send(numbers)
            sent_at[numbers[-1]] = time.monotonic()
            if number == len(chunks) // 2:
                wait_until(lambda: not power.unsynced(), what="a sync")
        struck_at = time.monotonic()
        redis.kill()
        is_lost = power.lose()
        redis.start()
        acknowledged = dict(sender.acknowledged)
        stored = sender.stored(gateway.url)
        assert stored == list(acknowledged.values())[: len(stored)]
        assert (len(stored) < len(acknowledged)) == is_lost
        for last, at in sent_at.items():
            assert struck_at - at < 2.5 or last <= len(stored)
        # The client is told where to go on, and sends the rest again: to the same masks.
        again = Sender([gateway], session, acknowledged=acknowledged)
        if len(stored) < len(acknowledged):
            answer = append(gateway.url, session, chunks[-1])
            assert problem(answer) == (409, "frame-ahead")
            assert answer.json()["expected"] == len(stored) + 1
        for numbers in chunks:
            if numbers[-1] > len(stored):
                again.send(numbers)
        again.check(gateway.url, undisturbed(api, chunks))


def test_a_bit_that_flips_is_noticed_and_never_answered(
    seed: int, tmp_path: Path, toy_folder: Path
) -> None:
    chosen = random.Random(seed)
    with (
        running_redis(tmp_path / "redis") as redis,
        gateways(1, toy_folder, redis_url=redis.url) as (gateway,),
    ):
        sessions: dict[str, Told] = {}
        for chunk in (SENT, range(7, 13)):
            session = start(gateway.url)
            frames = append(gateway.url, session, chunk, first=1).json()["frames"]
            sessions[session] = Told(frames, fork_and_append(gateway, session).json()["frames"])
        redis.kill()
        shutil.copytree(redis.folder / "appendonlydir", tmp_path / "sound")
        seen = {
            flip_and_read(redis, gateway, tmp_path / "sound", sessions, chosen)
            for _ in range(FLIPS)
        }
        assert seen & {"told", "ended"}


def flip_and_read(
    redis: RedisServer,
    gateway: Gateway,
    sound: Path,
    sessions: dict[str, Told],
    chosen: random.Random,
) -> str:
    """Flip one bit of the file, start Redis on it, and return what became of it."""
    folder = redis.folder / "appendonlydir"
    shutil.rmtree(folder)
    shutil.copytree(sound, folder)
    (file,) = folder.glob("*.incr.aof")
    data = bytearray(file.read_bytes())
    data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    file.write_bytes(data)
    log = redis.folder / "redis.log"
    said_before = log.stat().st_size
    if not starts(redis):
        said = log.read_bytes()[said_before:]
        assert b"append only file" in said or b"AOF" in said or b"Unknown command" in said
        return "ended"  # as Redis said
    is_cut = b"runcat" in log.read_bytes()[said_before:]
    found = {read(gateway, session, told, is_cut=is_cut) for session, told in sessions.items()}
    redis.kill()
    return max(found)


class Told(NamedTuple):
    """What a session's masks were before the damage, and those that came next."""

    frames: list[Any]
    following: list[Any]


def fork_and_append(gateway: Gateway, session: str) -> httpx.Response:
    """Append to a fork of the session, for which its memory is read."""
    path = f"{gateway.url}/v1/sessions/{session}/fork"
    answer = httpx.post(path, timeout=PATIENCE_S)
    if answer.status_code != 201:
        return answer
    return append(gateway.url, answer.json()["session_id"], range(13, 15), first=SENT.stop)


def read(gateway: Gateway, session: str, told: Told, *, is_cut: bool) -> str:
    """Check that the session's masks are those that they were, or that damage is told."""
    path = f"{gateway.url}/v1/sessions/{session}/masks"
    stored = httpx.get(path, params={"from": 1}, timeout=PATIENCE_S)
    if stored.status_code == 200:
        frames = stored.json()["frames"]
        assert frames == told.frames or (is_cut and frames == told.frames[: len(frames)])
    following = fork_and_append(gateway, session)
    if following.status_code == 200:
        assert following.json()["frames"] == told.following
    refused = [answer for answer in (stored, following) if answer.status_code != 200]
    noticed = {(500, "corrupt-session"), (404, "unknown-session"), (404, "unknown-frame")}
    if is_cut:
        noticed.add((409, "frame-ahead"))
    assert {problem(answer) for answer in refused} <= noticed
    return "same" if not refused else "told"


def starts(redis: RedisServer) -> bool:
    """Start Redis and return whether it answers, and does not end instead."""
    redis.launch()
    while not redis.answers():
        assert redis.process is not None
        with suppress(subprocess.TimeoutExpired):
            redis.process.wait(0.02)
            return False
    with suppress(RedisError), redis.client() as client:
        return bool(client.ping())
    return False
