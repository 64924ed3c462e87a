"""What training clips cost to make, what they are made of, and how they look."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from model.data.errors import DataError
from model.data.samples import Sample, SampleConfig, draw_sample
from model.data.static import Pixels

_OUTLINE = (0, 220, 90)
_FRAMES_SHOWN, _SIDE_SHOWN = 6, 192


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a batch costs one process on one core, and what the clips were made of.

    `batch_s` is processor time, `batch_wall_s` time by the clock, both the median over batches,
    in seconds. `shares` are those of the clips with each source and trait, `absent` that of the
    frames that do not show the target.
    """

    batches: int
    batch: int
    batch_s: float
    batch_wall_s: float
    shares: dict[str, float]
    absent: float

    @property
    def samples_a_second(self) -> float:
        """Return clips that one core makes in a second."""
        return self.batch / self.batch_s

    def text(self) -> str:
        """Return the measurement, line by line."""
        return "\n".join(
            (
                f"{self.samples_a_second:.1f} clips/s on one core",
                f"{1000 * self.batch_s:.0f} ms a batch of {self.batch}, "
                f"{1000 * self.batch_wall_s:.0f} ms by the clock (medians of {self.batches})",
                f"{self.absent:6.1%} of the frames do not show the target",
                *(f"{share:6.1%} {name}" for name, share in self.shares.items()),
            )
        )


def measure(config: SampleConfig, batches: int) -> Measurement:
    """Make so many batches in this process, on one core, and say what that took and gave.

    One more comes first, which is not counted: it opens the files.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        _make(config, 0)
        made = [_make(config, step) for step in range(1, batches + 1)]
    finally:
        cv2.setNumThreads(threads)
    samples = [sample for batch, _, _ in made for sample in batch]
    return Measurement(
        batches=batches,
        batch=config.batch,
        batch_s=median(spent for _, spent, _ in made),
        batch_wall_s=median(wall for _, _, wall in made),
        shares=measure_shares(samples),
        absent=float(np.mean([not mask.any() for sample in samples for mask in sample.masks])),
    )


def _make(config: SampleConfig, step: int) -> tuple[list[Sample], float, float]:
    """Return the clips of a step, and the seconds of processor and clock that they took."""
    wall, spent = time.perf_counter(), time.process_time()
    samples = [draw_sample(config, step, index) for index in range(config.batch)]
    return samples, time.process_time() - spent, time.perf_counter() - wall


def measure_shares(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the share of the clips with each source and each trait, the sources first."""
    sources = Counter(sample.source.split("/")[0] for sample in samples)
    traits = Counter(trait for sample in samples for trait in set(sample.traits))
    found = sources.most_common() + traits.most_common()
    return {name: count / len(samples) for name, count in found}


def write_sheet(path: Path, config: SampleConfig, *, samples: int) -> None:
    """Draw the first clips of as many steps into a picture at `path` (`draw_sheet`)."""
    sheet = draw_sheet([draw_sample(config, step, 0) for step in range(samples)])
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise DataError(f"cannot draw a picture of the kind of {path}") from error
    if not written:
        raise DataError(f"cannot write {path}")


def draw_sheet(samples: Sequence[Sample]) -> Pixels:
    """Return clips as rows of frames, (height, width, 3) RGB.

    The target is outlined; what was drawn to make the clip is written into its first frame.
    """
    return np.vstack([_draw_row(sample) for sample in samples])


def _draw_row(sample: Sample) -> Pixels:
    last = len(sample.frames) - 1
    moments = np.rint(np.linspace(0, last, _FRAMES_SHOWN)).astype(int)
    cells = [_draw_cell(sample.frames[moment], sample.masks[moment]) for moment in moments]
    for line, word in enumerate((sample.source, *sample.traits)):
        place = (3, 11 + 11 * line)
        for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(cells[0], word, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, color, width)
    return np.hstack(cells)


def _draw_cell(frame: Pixels, mask: Pixels) -> Pixels:
    size = (_SIDE_SHOWN, _SIDE_SHOWN)
    cell = np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    small = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    outlines, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(cell, outlines, -1, _OUTLINE, 1)
    return np.asarray(cell, dtype=np.uint8)
