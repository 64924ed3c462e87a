"""Stored data that were damaged: an error that names the session, and never another's masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from tests.faults.gateways import Gateway, gateways
from tests.faults.sending import append, start
from tests.support.redis_servers import RedisServer, running_redis
from tests.support.running import PATIENCE_S, problem

SENT = range(1, 7)
Damage = Callable[[Redis, str, str], None]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def pair(redis: RedisServer, toy_folder: Path) -> Iterator[tuple[Gateway, Gateway]]:
    """One gateway has the session's bank, the other one has to read its memory."""
    with gateways(2, toy_folder, redis_url=redis.url) as (first, second):
        yield first, second


def flip(redis: Redis, session: str, part: str, name: str) -> None:
    """One bit in the middle of a record is another one."""
    key = f"tamvt:{{{session}}}:{part}"
    stored = redis.hget(key, name)
    assert isinstance(stored, bytes)
    record = bytearray(stored)
    record[len(record) // 2] ^= 1
    redis.hset(key, name, bytes(record))


def copy(redis: Redis, session: str, other: str, part: str, name: str) -> None:
    """A record of another session is in this one's place."""
    record = redis.hget(f"tamvt:{{{other}}}:{part}", name) or b""
    redis.hset(f"tamvt:{{{session}}}:{part}", name, record)


def drop(redis: Redis, session: str, part: str, name: str) -> None:
    redis.hdel(f"tamvt:{{{session}}}:{part}", name)


STATE: list[Damage] = [
    lambda redis, session, other: flip(redis, session, "session", "state"),
    lambda redis, session, other: copy(redis, session, other, "session", "state"),
    lambda redis, session, other: drop(redis, session, "session", "state"),
]
MASKS: list[Damage] = [
    lambda redis, session, other: flip(redis, session, "masks", "3"),
    lambda redis, session, other: copy(redis, session, other, "masks", "3"),
    lambda redis, session, other: drop(redis, session, "masks", "3"),
]
ENTRIES: list[Damage] = [
    lambda redis, session, other: flip(redis, session, "entries", "4"),
    lambda redis, session, other: copy(redis, session, other, "entries", "4"),
    lambda redis, session, other: drop(redis, session, "entries", "4"),
]


@pytest.fixture
def sessions(pair: tuple[Gateway, Gateway]) -> tuple[str, str]:
    """Two sessions with the same frames."""
    found = start(pair[0].url), start(pair[0].url)
    for session in found:
        assert append(pair[0].url, session, SENT).status_code == 200
    return found


def check_named(answer: httpx.Response, session: str) -> None:
    assert problem(answer) == (500, "corrupt-session")
    assert answer.json()["session_id"] == session


@pytest.mark.parametrize("damage", STATE)
def test_a_damaged_state_is_named_by_every_call(
    damage: Damage, redis: RedisServer, pair: tuple[Gateway, Gateway], sessions: tuple[str, str]
) -> None:
    with redis.client() as client:
        damage(client, *sessions)
    url = f"{pair[0].url}/v1/sessions/{sessions[0]}"
    for answer in (
        httpx.get(url, timeout=PATIENCE_S),
        httpx.get(f"{url}/masks", timeout=PATIENCE_S),
        httpx.post(f"{url}/fork", timeout=PATIENCE_S),
        httpx.delete(f"{url}/objects/2", timeout=PATIENCE_S),
        append(pair[0].url, sessions[0], range(7, 9)),
    ):
        check_named(answer, sessions[0])
    assert append(pair[0].url, sessions[1], range(7, 9)).status_code == 200


@pytest.mark.parametrize("damage", MASKS)
def test_damaged_masks_are_never_answered(
    damage: Damage, redis: RedisServer, pair: tuple[Gateway, Gateway], sessions: tuple[str, str]
) -> None:
    with redis.client() as client:
        damage(client, *sessions)
    url = f"{pair[0].url}/v1/sessions/{sessions[0]}"
    check_named(httpx.get(f"{url}/masks", timeout=PATIENCE_S), sessions[0])
    check_named(httpx.get(f"{url}/masks/3.png", timeout=PATIENCE_S), sessions[0])
    check_named(append(pair[0].url, sessions[0], SENT), sessions[0])


@pytest.mark.parametrize("damage", ENTRIES)
def test_a_damaged_entry_stops_a_rebuild_and_changes_nothing(
    damage: Damage, redis: RedisServer, pair: tuple[Gateway, Gateway], sessions: tuple[str, str]
) -> None:
    with redis.client() as client:
        damage(client, *sessions)
    check_named(append(pair[1].url, sessions[0], range(7, 9)), sessions[0])
    assert (
        httpx.get(f"{pair[1].url}/v1/sessions/{sessions[0]}", timeout=PATIENCE_S).json()[
            "next_frame"
        ]
        == 7
    )
    assert append(pair[1].url, sessions[1], range(7, 9)).status_code == 200
