"""Stages add up to the whole."""

from __future__ import annotations

import time

import pytest

from service.telemetry.stage_times import StageTimes


def test_stages_add_up() -> None:
    times = StageTimes()
    time.sleep(0.02)
    times.end("decode")
    times.end("inference")
    time.sleep(0.01)
    times.end("decode")
    found = times.milliseconds()
    assert list(found) == ["decode_ms", "inference_ms", "total_ms"]
    assert found["decode_ms"] >= 30
    assert found["total_ms"] == pytest.approx(found["decode_ms"] + found["inference_ms"], abs=0.01)
