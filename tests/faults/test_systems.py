"""Each system of the family, on two gateways that are killed, replaced, and given damaged data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import pytest
from redis import Redis

from model.core.palette import write_label_map
from tests.faults.gateways import Gateway, gateways
from tests.faults.sending import append, happening
from tests.support import scene
from tests.support.redis_servers import RedisServer, running_redis
from tests.support.running import PATIENCE_S, form
from tests.support.small_models import SMALL_GRAPHS, SYSTEMS

CHUNKS = (range(1, 3), range(3, 8), range(8, 9), range(9, 13))
Frames = list[Any]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def pair(redis: RedisServer) -> Iterator[Sequence[Gateway]]:
    """Two gateways that serve all systems."""
    names = ",".join(SYSTEMS)
    with gateways(2, SMALL_GRAPHS, redis_url=redis.url, models=names) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(pair: Sequence[Gateway]) -> Mapping[str, Frames]:
    """What one gateway alone answers, which has the bank all the time."""
    found = {}
    for name in SYSTEMS:
        session = start(pair[0], name)
        found[name] = [frame for numbers in CHUNKS for frame in send(pair[0], session, numbers)]
    return found


def start(gateway: Gateway, name: str) -> str:
    parts = (
        ("frame", scene.png(0, objects=2)),
        ("mask", scene.mask(objects=2)),
        ("options", httpx.Response(200, json={"model": name, "memory_size": 4}).content),
    )
    answer = httpx.post(f"{gateway.url}/v1/sessions", files=form(parts), timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["session_id"])


def send(gateway: Gateway, session: str, numbers: range) -> Frames:
    answer = append(gateway.url, session, numbers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["frames"])


def session_of(gateway: Gateway, session: str) -> Any:
    return httpx.get(f"{gateway.url}/v1/sessions/{session}", timeout=PATIENCE_S).json()


@pytest.mark.parametrize("name", SYSTEMS)
def test_gateways_in_turn_rebuild_and_give_the_same_masks(
    pair: Sequence[Gateway], undisturbed: Mapping[str, Frames], name: str
) -> None:
    """Frames that are sent again are answered from the store, and change nothing."""
    session, found = start(pair[0], name), []
    for turn, numbers in enumerate(CHUNKS):
        found += send(pair[turn % 2], session, numbers)
        assert send(pair[(turn + 1) % 2], session, numbers) == found[-len(numbers) :]
    assert found == undisturbed[name]
    assert session_of(pair[0], session)["state_rebuilt_at"] is None


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_correction_through_one_gateway_is_seen_by_the_other(
    pair: Sequence[Gateway], name: str
) -> None:
    drawn = form([("mask", write_label_map(scene.labels(7, objects=2)))])
    found = []
    for turns in (pair, (pair[0], pair[0])):
        session = start(turns[0], name)
        send(turns[1], session, range(1, 8))
        path = f"{turns[0].url}/v1/sessions/{session}"
        assert httpx.put(f"{path}/objects", files=drawn, timeout=PATIENCE_S).status_code == 200
        fork = httpx.post(f"{path}/fork", timeout=PATIENCE_S).json()["session_id"]
        found += [send(turns[1], session, range(8, 11)), send(turns[0], fork, range(8, 11))]
    assert all(frames == found[0] for frames in found)


def test_a_killed_gateway_and_a_rolling_upgrade_lose_nothing(
    pair: Sequence[Gateway], undisturbed: Mapping[str, Frames]
) -> None:
    """All systems at once: killed in the middle of an append, then one after the other replaced."""
    sessions = {name: start(pair[1], name) for name in SYSTEMS}
    found: dict[str, Frames] = {name: send(pair[0], sessions[name], CHUNKS[0]) for name in SYSTEMS}

    def go_on(gateway: Gateway, numbers: range) -> None:
        for name in SYSTEMS:
            found[name] += send(gateway, sessions[name], numbers)

    with happening(pair[0].kill, after_s=0.02):
        for session in sessions.values():
            try:
                append(pair[0].url, session, CHUNKS[1])
            except httpx.TransportError:
                time.sleep(0.01)
    go_on(pair[1], CHUNKS[1])  # what the killed one may have committed is not applied twice
    pair[0].start()
    go_on(pair[0], CHUNKS[2])
    pair[1].stop()
    pair[1].start()
    go_on(pair[1], CHUNKS[3])
    assert found == undisturbed


def flip(redis: Redis, key: str, field: str) -> None:
    stored = redis.hget(key, field)
    assert isinstance(stored, bytes)
    record = bytearray(stored)
    record[len(record) // 2] ^= 1
    redis.hset(key, field, bytes(record))


def drop(redis: Redis, key: str, field: str) -> None:
    redis.hdel(key, field)


@pytest.mark.parametrize("damage", [flip, drop])
def test_a_state_that_cannot_be_read_is_made_anew_and_told(
    pair: Sequence[Gateway],
    redis: RedisServer,
    undisturbed: Mapping[str, Frames],
    damage: Any,
) -> None:
    name, found = "qmvos-mobile", []
    for _ in range(2):  # the same frames give the same masks again
        session = start(pair[0], name)
        for numbers in CHUNKS[:2]:
            send(pair[0], session, numbers)
        key, newest = f"tamvt:{{{session}}}:entries", CHUNKS[1][-1]
        with redis.client() as client:
            assert client.hexists(key, f"{newest}.state")
            damage(client, key, f"{newest}.state")
        fork = httpx.post(f"{pair[0].url}/v1/sessions/{session}/fork", timeout=PATIENCE_S).json()
        for each in (session, fork["session_id"]):
            found.append(send(pair[1], each, CHUNKS[2]) + send(pair[0], each, CHUNKS[3]))
            assert session_of(pair[0], each)["state_rebuilt_at"] == newest + 1
    assert all(frames == found[0] for frames in found)
    assert found[0] != undisturbed[name][newest:]  # so the state is of use


def test_a_state_counts_as_bytes_of_its_session(
    pair: Sequence[Gateway], redis: RedisServer
) -> None:
    session = start(pair[0], "qmvos-mobile")
    send(pair[0], session, CHUNKS[0])
    with redis.client() as client:
        counted = int(client.hget(f"tamvt:{{{session}}}:session", "bytes") or 0)
        stored = [
            len(value)
            for part in ("entries", "masks")
            for value in client.hgetall(f"tamvt:{{{session}}}:{part}").values()
        ]
        states = [name for name in client.hkeys(f"tamvt:{{{session}}}:entries") if b"state" in name]
    assert counted == sum(stored)
    assert sorted(states) == [b"1.state", b"2.state"]
