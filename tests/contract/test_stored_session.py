"""A session that commit 460bd98 stored goes on in the code of today."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.support import scene
from tests.support.redis_servers import running_redis
from tests.support.running import PATIENCE_S, Api, running_service

STORED = Path(__file__).parent / "stored" / "session_460bd98.json"


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    """What Redis held of the session, its state as REST told it, and the masks that came next."""
    found: dict[str, Any] = json.loads(STORED.read_text())
    return found


@pytest.fixture
def redis_and_api(
    stored: dict[str, Any], toy_folder: Path, tmp_path: Path
) -> Iterator[tuple[Redis, Api]]:
    """A Redis that holds the stored session, and today's gateway on it."""
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as redis, redis.client() as client:
        restore(client, stored["keys"])
        settings = {"TAMVT_REDIS_URL": redis.url}
        with (
            running_service(state=tmp_path, weights=toy_folder, settings=settings) as service,
            httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http,
        ):
            yield client, Api(http)


def restore(client: Redis, keys: dict[str, Any]) -> None:
    """Write hashes and sorted sets as they were."""
    for key, stored in keys.items():
        name = b64decode(key)
        if stored["type"] == "hash":
            for field, value in stored["value"].items():
                client.hset(name, b64decode(field), b64decode(value))
        else:
            assert stored["type"] == "zset"
            scores = {b64decode(member): score for member, score in stored["value"].items()}
            client.zadd(name, scores)
        client.expire(name, 600)


def test_its_state_and_masks_are_read(
    redis_and_api: tuple[Redis, Api], stored: dict[str, Any]
) -> None:
    _, api = redis_and_api
    assert api.state(stored["session_id"]) == {
        **stored["state"],
        "model_size": [64, 96],
        "runtime": "",
        "state_rebuilt_at": None,
    }


def test_it_goes_on_with_the_same_masks(
    redis_and_api: tuple[Redis, Api], stored: dict[str, Any]
) -> None:
    _, api = redis_and_api
    frames = [scene.png(number, objects=2) for number in range(9, 13)]
    answer = api.append(stored["session_id"], frames, first=9)
    assert answer.status_code == 200, answer.text
    assert answer.json()["frames"] == stored["next_frames"]


def test_it_can_be_gone_back_to_before_and_after_it_is_written_again(
    redis_and_api: tuple[Redis, Api], stored: dict[str, Any]
) -> None:
    _, api = redis_and_api
    session = stored["session_id"]
    frames = [scene.png(number, objects=2) for number in range(9, 13)]
    copies = [api.http.post(f"/v1/sessions/{session}/fork", params={"at": 8}).json()]
    assert api.append(session, frames, first=9).status_code == 200
    copies.append(api.http.post(f"/v1/sessions/{session}/fork", params={"at": 8}).json())
    for copy in copies:
        assert copy["next_frame"] == 9
        answer = api.append(copy["session_id"], frames, first=9).json()
        assert answer["frames"] == stored["next_frames"]
    older = api.http.post(f"/v1/sessions/{session}/fork", params={"at": 3})
    assert older.status_code == 201, older.text


def test_its_bytes_are_counted_once_it_is_written_again(
    redis_and_api: tuple[Redis, Api], stored: dict[str, Any]
) -> None:
    client, api = redis_and_api
    session = stored["session_id"]
    api.append(session, [scene.png(9, objects=2)], first=9)
    keys = [f"tamvt:{{{session}}}:{part}" for part in ("entries", "masks")]
    values = [value for key in keys for value in client.hvals(key)]
    assert client.hget(f"tamvt:{{{session}}}:session", "bytes") == b"%d" % sum(map(len, values))


def test_what_is_written_has_the_fields_of_then_and_new_ones(
    redis_and_api: tuple[Redis, Api], stored: dict[str, Any]
) -> None:
    """A gateway of then finds what one of today wrote, and refuses its format (decision 58)."""
    client, api = redis_and_api
    session = api.start(objects=2, memory_size=4)
    old = f"{{{stored['session_id']}}}"
    for key, then in stored["keys"].items():
        name = b64decode(key).decode().replace(old, f"{{{session}}}")
        assert client.type(name) == then["type"].encode(), name
        if name.endswith(":session"):
            fields = {b64decode(field) for field in then["value"]}
            assert set(client.hkeys(name)) == fields | {b"tenant", b"bytes", b"reserved"}
