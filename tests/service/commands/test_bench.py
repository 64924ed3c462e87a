"""`tamvt bench engine` with the toy model: its table, and the sessions it measures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from service.commands.bench import SteadySession, processor, resident_mb, sample_footage
from service.engines.embedded import embedded_engine
from tests.support.running import run_tamvt


def test_the_table_has_a_row_for_each_number_of_objects(toy_folder: Path) -> None:
    settings = {"TAMVT_WEIGHTS": str(toy_folder), "TAMVT_MODEL": "toy"}
    words = ["bench", "engine", "--size", "64x96", "--clips", "10", "--frames", "150"]
    done = run_tamvt(*words, settings=settings)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^toy, 64x96, N = 9, L = 2; \d{4}-\d\d-\d\d, .+, \d+ threads$", done.stdout, re.M
    )
    for objects in (1, 2, 3):
        assert re.search(rf"^\| {objects} \| [\d.]+ \| [\d.]+ \|", done.stdout, re.M)
    assert "% of the first |" in done.stdout
    assert "around frames 100 and 150" in done.stdout
    assert "RSS, MB, at frames 500 and 150" in done.stdout


def test_the_strips_of_the_object_are_the_whole_of_it() -> None:
    footage = sample_footage((64, 96))
    strips = footage.masks(3)
    assert strips.shape == (3, 64, 96)
    assert (strips.any(axis=(1, 2))).all()
    assert (strips.sum(axis=0) == footage.mask).all()
    assert footage.frames.dtype == np.uint8


@pytest.mark.anyio
async def test_a_steady_session_goes_on_with_one_bank(toy_folder: Path) -> None:
    async with embedded_engine(toy_folder, "toy", threads=1) as engine:
        session = SteadySession(
            engine, sample_footage((64, 96)), objects=2, clip_length=3, memory_size=4
        )
        await session.fill()
        assert session.next_frame == 1 + 3 * (4 + 2)
        assert await session.clip_ms() > 0


def test_the_machine_is_named() -> None:
    assert processor()
    assert resident_mb() > 10
