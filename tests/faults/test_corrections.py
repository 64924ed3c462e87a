"""Objects that come and go through two gateways on Triton, whose bank is shared memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.core.palette import write_label_map
from tests.faults.gateways import Gateway, gateways
from tests.faults.sending import append
from tests.faults.tritons import running_triton
from tests.support import scene
from tests.support.redis_servers import running_redis
from tests.support.running import PATIENCE_S, Api, form
from tests.support.tritons import write_gated_repository


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Iterator[Sequence[Gateway]]:
    repository = tmp_path_factory.mktemp("repository")
    write_gated_repository(toy_folder, repository)
    with (
        running_redis(tmp_path_factory.mktemp("redis")) as redis,
        running_triton(repository) as triton,
        gateways(
            2, toy_folder, engine="triton", triton_url=triton.url, redis_url=redis.url
        ) as found,
    ):
        yield found


def masks_with_corrections(urls: Sequence[str]) -> list[Any]:
    """The masks of a video whose objects are added, corrected, removed, and of a fork of it."""
    with httpx.Client(base_url=urls[0], timeout=PATIENCE_S) as http:
        session = Api(http).start(memory_size=6)
        path = f"/v1/sessions/{session}/objects"
        for clip in range(8):
            numbers = range(2 * clip + 1, 2 * clip + 3)
            answer = append(urls[clip % 2], session, numbers)
            assert answer.status_code == 200, answer.text
            drawn = scene.labels(numbers[-1], objects=2)
            if clip in (1, 4):
                labels = drawn if clip == 1 else np.where(drawn == 0, 0, drawn + 1)
                files = form([("mask", write_label_map(labels.astype(np.uint8)))])
                assert http.put(path, files=files).status_code == 200
            if clip == 6:
                assert http.delete(f"{path}/2").status_code == 204
        fork = http.post(f"/v1/sessions/{session}/fork", params={"at": 12}).json()["session_id"]
        append(urls[1], fork, range(13, 15))
        return [Api(http).masks(name).json()["frames"] for name in (session, fork)]


def test_objects_come_and_go_with_triton_as_without(pair: Sequence[Gateway], api: Api) -> None:
    expected = masks_with_corrections([str(api.http.base_url)] * 2)
    assert masks_with_corrections([gateway.url for gateway in pair]) == expected
