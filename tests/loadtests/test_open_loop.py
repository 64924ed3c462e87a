"""The open loop: latency from when a frame is due, and the search for live sessions."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.addresses import require_loopback
from loadtests.capacity import (
    LiveCase,
    LiveSessions,
    find_live_sessions,
    measure_cases,
    measure_targets,
)
from loadtests.figures import latency_of
from loadtests.load_video import LoadVideo
from loadtests.open_loop import (
    DRAIN_S,
    CameraStream,
    DueFrame,
    OpenLoopOptions,
    OpenLoopResult,
    send_open_loop,
    sum_up,
)
from tests.support.running import Running

NOTHING = LoadVideo([b""], b"")


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["lossless", "latest"])
async def test_due_frames_are_answered(running: Running, video: LoadVideo, mode: str) -> None:
    options = OpenLoopOptions(sessions=2, fps=20, seconds=0.5, mode=mode)  # type: ignore[arg-type]
    found = await send_open_loop(running.url, video, options)
    assert found.refusals == ()
    assert found.answered + found.dropped == 2 * 10
    assert found.lost == 0
    assert 0 < found.latency.p50_ms <= found.latency.max_ms < 1000 * (0.5 + DRAIN_S)
    assert found.client_cpu > 0
    assert found.row()["sessions"] == 2


@pytest.mark.anyio
async def test_sessions_that_are_refused_are_told(running: Running, video: LoadVideo) -> None:
    bad = LoadVideo(video.frames, b"no mask")
    options = OpenLoopOptions(sessions=1, fps=10, seconds=0.1)
    found = await send_open_loop(running.url, bad, options)
    assert len(found.refusals) == 1
    assert (found.answered, found.lost) == (0, 1)
    assert not found.is_live(p95_ms=1e9)


def test_latency_counts_from_when_a_frame_was_due() -> None:
    options = OpenLoopOptions(sessions=1, fps=10, seconds=0.4)
    frames = [
        DueFrame(0.0, 0.0, 0.0, 0.02),
        DueFrame(0.1, 0.1, 0.101, 0.9),
        DueFrame(0.2, 0.9, 0.903, 1.0),  # it waited for a credit: that is not the client's fault
        DueFrame(0.3, 1.0, 1.0, None),
    ]
    found = sum_up([CameraStream(options, NOTHING, frames)], options, client_cpu=0.1)
    assert found.latency.p50_ms == pytest.approx(800)
    assert found.latency.max_ms == pytest.approx(1000 * DRAIN_S)
    assert found.late_ms == pytest.approx(3)
    assert (found.answered, found.lost, found.dropped) == (3, 1, 0)


def test_dropped_frames_have_no_latency() -> None:
    options = OpenLoopOptions(sessions=1, fps=10, seconds=0.2, mode="latest")
    frames = [DueFrame(0.0, 0.0, 0.0, 0.05), DueFrame(0.1, 0.1, 0.1, None, dropped=True)]
    found = sum_up([CameraStream(options, NOTHING, frames)], options, client_cpu=0.1)
    assert found.latency.max_ms == pytest.approx(50)
    assert (found.dropped, found.lost) == (1, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(("capacity", "held"), [(0, 0), (1, 1), (5, 5), (6, 4), (16, 16)])
async def test_the_most_live_sessions_are_found_and_held(capacity: int, held: int) -> None:
    found, tried = LiveSessions(LiveCase("onnxruntime", 1, 10.0)), list[tuple[int, float]]()

    async def probe(sessions: int, seconds: float) -> OpenLoopResult:
        tried.append((sessions, seconds))
        live = sessions <= (held if seconds == 60 else capacity)
        options = OpenLoopOptions(sessions=sessions, fps=10, seconds=seconds)
        latency = latency_of([50.0 if live else 500.0])
        frames = sessions * options.frames
        return OpenLoopResult(options, latency, 0.0, frames, 0, (), 10 * sessions, 10, 0.1)

    await find_live_sessions(found, probe, probe_s=5, held_s=60)
    assert found.sessions == held
    assert (found.held is not None) == (held > 0)
    if found.held is not None:
        assert (found.held.options.sessions, found.held.options.seconds) == (held, 60)
    assert len(tried) == len(set(tried)) == len(found.tries)
    await measure_targets(found, probe, seconds=5)
    assert [row["value"] for row in found.targets] == ([1.0, 1.0] if held else [])


def test_an_engine_that_is_missing_is_named(tmp_path: Path) -> None:
    cases = [LiveCase("triton", 1, 10.0)]
    found = list(measure_cases(cases, tmp_path, probe_s=1, held_s=1, targets=False))
    assert found == [
        "triton, 1 objects, 10 frames/s: not run: no repository is named (--triton-repository)"
    ]


def test_load_goes_to_this_machine_alone() -> None:
    assert require_loopback("http://127.0.0.1:8000") == "http://127.0.0.1:8000"
    assert require_loopback("https://example.com", allow_remote=True)
    for url in ("http://192.0.2.1:80", "https://example.com", "http://127.0.0.1.example.com"):
        with pytest.raises(SystemExit, match="--allow-remote"):
            require_loopback(url)
