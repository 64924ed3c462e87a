"""The metric of stage times moves for appends over REST and for streams, and only for commits."""

from __future__ import annotations

import httpx
import pytest

from tests.service.stream.talk import talk
from tests.support import scene
from tests.support.running import Api, Running

STAGES = ("receive", "queue", "store", "decode", "inference", "encode")


def counted(api: Api) -> dict[str, float]:
    """Seconds by stage, and the clips they are divided by."""
    lines = api.http.get("/metrics").text.splitlines()
    values = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[0] != "#"
    }
    stages = {
        stage: values.get(f'tamvt_stage_seconds_total{{stage="{stage}"}}', 0.0) for stage in STAGES
    }
    return {**stages, "clips": values["tamvt_clips_total"]}


def moved(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in after}


def append(api: Api, session: str) -> httpx.Response:
    return api.append(session, [scene.jpeg(number) for number in range(1, 5)], first=1)


def test_an_append_counts_the_stages_of_its_clips(api: Api) -> None:
    before = counted(api)
    timing = append(api, api.start()).json()["timing"]
    found = moved(before, counted(api))
    assert found["clips"] == 2
    for stage in STAGES:
        assert found[stage] == pytest.approx(timing[f"{stage}_ms"] / 1000, abs=1e-5)


def test_a_stream_counts_the_stages_of_each_clips_newest_frame(running: Running, api: Api) -> None:
    before = counted(api)
    with talk(running.url, api.start()) as stream:
        stream.send_frames(range(1, 5))
        timings = [message["timing"] for message in stream.hear_masks(4)]
        stream.send('{"type": "end"}')
        assert stream.hear_close() == 1000
    found = moved(before, counted(api))
    assert found["clips"] == 2
    for stage in STAGES:
        expected = sum(timing[f"{stage}_ms"] for timing in timings[1::2]) / 1000
        assert found[stage] == pytest.approx(expected, abs=1e-5)


def test_frames_that_are_committed_already_count_no_stage(running: Running, api: Api) -> None:
    session = api.start()
    append(api, session)
    before = counted(api)
    assert append(api, session).headers["idempotent-replay"] == "true"
    with talk(running.url, session) as stream:
        stream.send_frames(range(1, 5))
        stream.hear_masks(4)
        stream.send('{"type": "end"}')
        assert stream.hear_close() == 1000
    assert not any(moved(before, counted(api)).values())
