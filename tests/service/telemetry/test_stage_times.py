"""Stages add up to the whole."""

from __future__ import annotations

import time

import pytest

from service.telemetry.stage_times import Stopwatch


def test_stages_add_up() -> None:
    watch = Stopwatch()
    time.sleep(0.02)
    watch.lap("decode")
    watch.lap("inference")
    time.sleep(0.01)
    watch.lap("decode")
    found = watch.milliseconds()
    assert list(found) == ["decode_ms", "inference_ms", "total_ms"]
    assert found["decode_ms"] >= 30
    assert found["total_ms"] == pytest.approx(found["decode_ms"] + found["inference_ms"], abs=0.01)
