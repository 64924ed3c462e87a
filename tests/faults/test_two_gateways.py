"""Two gateways on one session: in turn, and at the same time; on one Redis and on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from model.core.palette import write_label_map
from tests.faults.gateways import Gateway, gateways
from tests.faults.sending import Sender, append, chunks_of, start, undisturbed
from tests.support import scene
from tests.support.redis_servers import running_cluster, running_redis
from tests.support.running import PATIENCE_S, Api, problem


@pytest.fixture(scope="module", params=["one Redis", "a Redis Cluster"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, toy_folder: Path
) -> Iterator[Sequence[Gateway]]:
    folder = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        if request.param == "one Redis":
            url = stack.enter_context(running_redis(folder)).url
        else:
            url = stack.enter_context(running_cluster(folder)).url
        yield stack.enter_context(gateways(2, toy_folder, redis_url=url))


def test_gateways_in_turn_give_the_same_masks_as_one(
    pair: Sequence[Gateway], seed: int, api: Api
) -> None:
    chunks = chunks_of(seed)
    sender = Sender(pair, start(pair[0].url))
    for numbers in chunks:
        sender.send(numbers)
    sender.check(pair[1].url, undisturbed(api, chunks))
    assert not sender.told


def test_of_two_clients_at_once_each_frame_takes_one(
    pair: Sequence[Gateway], seed: int, api: Api
) -> None:
    """The same frames through both gateways: nothing is applied twice."""
    chunks = chunks_of(seed)
    session = start(pair[0].url)
    senders = [Sender([gateway], session) for gateway in pair]
    with ThreadPoolExecutor(2) as pool:
        for numbers in chunks:
            list(pool.map(lambda sender, sent=numbers: sender.send(sent), senders))
    for sender, gateway in zip(senders, pair, strict=True):
        sender.check(gateway.url, undisturbed(api, chunks))
        assert set(sender.told) <= {"conflict"}


def test_of_two_clients_with_other_frames_one_is_told_where_to_go_on(
    pair: Sequence[Gateway], seed: int
) -> None:
    session = start(pair[0].url)
    asked = [range(1, 9), range(2, 10)]  # other pictures from frame 1 on, from the second client
    with ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(
                lambda gateway, numbers: append(gateway.url, session, numbers, first=1),
                pair,
                asked,
            )
        )
    (lost,) = (answer for answer in answers if answer.status_code != 200)
    assert problem(lost) in {(409, "conflict"), (409, "frame-changed")}
    assert lost.json()["expected"] == 9


def test_a_correction_through_one_gateway_is_seen_by_the_other(
    pair: Sequence[Gateway], api: Api
) -> None:
    """The other one's bank is of an older version: it is rebuilt, and gives the same masks."""
    drawn = write_label_map(scene.labels(3, objects=2))
    found = []
    for urls in ([pair[0].url, pair[1].url], [str(api.http.base_url)] * 2):
        session = start(urls[0])
        append(urls[1], session, range(1, 3))
        answer = httpx.put(
            f"{urls[0]}/v1/sessions/{session}/objects", files={"mask": drawn}, timeout=PATIENCE_S
        )
        assert answer.status_code == 200, answer.text
        found.append(append(urls[1], session, range(3, 7)).json()["frames"])
    assert found[0] == found[1]
