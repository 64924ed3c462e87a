"""What a stream tells of itself once a second."""

from __future__ import annotations

import json
from collections.abc import Iterator

from service.stream.statistics import StreamStatistics
from tamvt_client import Client, StatsMessage
from tests.service.stream.talk import talk
from tests.support import scene
from tests.support.running import Api, Running


def test_rates_are_since_the_last_message_and_latencies_of_ten_seconds() -> None:
    statistics = StreamStatistics(100.0)
    statistics.answered([100.0, 100.1], 100.4, dropped=3)
    first = json.loads(statistics.write(101.0, queue=2))
    assert (first["frames_per_s"], first["dropped"], first["queue"]) == (2.0, 3, 2)
    assert first["latency_ms"] == {"p50": 300.0, "p95": 300.0, "p99": 300.0}
    statistics.answered([101.0], 101.5, dropped=1)
    second = json.loads(statistics.write(103.0, queue=0))
    assert (second["frames_per_s"], second["dropped"]) == (0.5, 4)
    assert second["latency_ms"]["p50"] == 400.0
    late = json.loads(statistics.write(111.0, queue=0))
    assert late["latency_ms"] == {"p50": 500.0, "p95": 500.0, "p99": 500.0}
    assert json.loads(statistics.write(130.0, queue=0))["latency_ms"] == {}


def test_statistics_come_once_a_second_where_they_are_asked_for(running: Running, api: Api) -> None:
    with talk(running.url, api.start(), stats="true") as stream:
        stream.send_frames([1, 2])
        kinds: list[str] = []
        while kinds.count("stats") < 2:
            kinds.append(stream.hear()["type"])
    assert kinds.count("masks") == 2
    told = [message for message in stream.heard if message["type"] == "stats"]
    assert told[-1]["queue"] == 0
    assert sum(each["frames_per_s"] for each in told) > 0


def test_the_client_hands_statistics_on(running: Running) -> None:
    told: list[StatsMessage] = []

    def frames() -> Iterator[bytes]:
        for number in range(1, 2000):
            if told:
                return
            yield scene.png(number)

    with Client(running.url) as client:
        session = client.start(scene.png(0), scene.mask())
        answered = [
            masks.frame
            for masks in client.stream(session.session_id, frames(), on_stats=told.append)
        ]
    assert answered == list(range(1, len(answered) + 1))
    assert told[0].frames_per_s > 0
    assert set(told[0].latency_ms) == {"p50", "p95", "p99"}
