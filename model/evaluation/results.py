"""Results of many runs: each is measured once, kept in a CSV file, and shown in a table.

L frames of a clip, N entries.
"""

import csv
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Unpack

from tqdm import tqdm

from model.data.video import Video
from model.evaluation.runtime import Runtime
from model.evaluation.scoring import ObjectScore, Tracking, predict, read_truth, score
from model.evaluation.tables import average_measures, write_csv

MEASURES = ("j", "f", "j_and_f", "j_tr")
NOT_GIVEN = "not given here"  # a figure of the paper that our description of it does not carry

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TrackingResult:
    """The scores of every object of some videos, and the frames a second, decoding included."""

    scores: Sequence[ObjectScore]
    rate: float

    def cells(self) -> dict[str, str]:
        """Return what a row keeps of it, as text: means over objects from 0 to 1, and the rate."""
        means = average_measures(self.scores)
        return {
            **{name: f"{means[name]:.6f}" for name in MEASURES},
            "frames_a_second": f"{self.rate:.2f}",
        }


def track_and_score(
    runtime: Runtime, videos: Sequence[Video], **memory: Unpack[Tracking]
) -> TrackingResult:
    """Return whole videos followed from their first masks by the offline loop, and scored.

    `memory` may hold another `clip_length` (L) or `memory_size` (N) than the model's own.
    """
    scores: list[ObjectScore] = []
    frames, seconds = 0, 0.0
    for video in tqdm(videos, unit="video", leave=False, disable=None):
        truth = read_truth(video)
        start = time.perf_counter()
        labels = predict(runtime, video, truth, **memory)
        seconds += time.perf_counter() - start
        frames += len(labels) - 1
        scores += score(video, truth, labels)
    return TrackingResult(scores, frames / seconds)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file, oldest first; none where there is no file yet."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def add_row(path: Path, row: Row) -> list[Row]:
    """Return all rows, this one the last; a crash leaves the file without it or with all of it."""
    rows = [*read_rows(path), row]
    partial = path.with_suffix(".partial")
    write_csv(partial, rows)
    os.replace(partial, path)
    return rows


def today() -> str:
    """Return the date, which every table names."""
    return f"{datetime.now(UTC):%Y-%m-%d}"
