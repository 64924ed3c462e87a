"""What a training leaves to look at: a table of steps, TensorBoard logs, and pictures.

B clips, F frames, H and W the crop, h and w its size at stride 4.
"""

import resource
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.data.samples import SampleBatch
from model.data.static import Pixels

TRUE_COLOR, PREDICTED_COLOR = (0, 220, 90), (255, 60, 60)
CLIPS_SHOWN, FRAMES_SHOWN, SIDE_SHOWN = 4, 7, 192


class TrainingLog:
    """`log.csv` (step, loss, seconds waited for data, seconds in all), TensorBoard, `pictures/`.

    Rows of steps from `first_step` on, which a training did before it stopped, are dropped: they
    are done again. TensorBoard is written where the package is installed.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        self._folder = folder
        self._table = folder / "log.csv"
        kept = ["step,loss,waited_s,took_s"]
        if self._table.exists():
            rows = (row for row in self._table.read_text().splitlines() if row[:1].isdigit())
            # A row that is cut short was being written when the machine stopped.
            whole = (row for row in rows if row.count(",") == kept[0].count(","))
            kept += [row for row in whole if int(row.split(",")[0]) <= first_step]
        self._table.write_text("\n".join(kept) + "\n")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def step(self, step: int, *, loss: float, rate: float, waited: float, took: float) -> None:
        """Log one step that was done."""
        with self._table.open("a") as file:
            file.write(f"{step},{loss:.4f},{waited:.3f},{took:.3f}\n")
        if self._board is not None:
            values = {"loss": loss, "rate": rate, "seconds/waited": waited, "seconds/all": took}
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def log_picture(self, step: int, image: Pixels) -> None:
        """Log a picture (H, W, 3) of what the model was shown and what it predicted."""
        path = self._folder / "pictures" / f"step{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if self._board is not None:
            self._board.add_image("clips", image, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is pending."""
        if self._board is not None:
            self._board.close()


def draw_picture(batch: SampleBatch, logits: torch.Tensor) -> Pixels:
    """Return clips as rows of frames, the truth outlined in green, the prediction in red.

    `logits` (B, F', h, w) are those of the last F' frames.
    """
    predicted = logits.float().cpu().numpy() > 0
    count = predicted.shape[1]
    rows = []
    for frames, masks, found in list(zip(batch.frames, batch.masks, predicted, strict=True))[
        :CLIPS_SHOWN
    ]:
        cells = [draw_outlined(frames[0], masks[0], None)]
        triples = zip(frames[-count:], masks[-count:], found, strict=True)
        cells += [draw_outlined(frame, mask, one) for frame, mask, one in triples]
        rows.append(np.hstack(cells[:FRAMES_SHOWN]))
    return np.vstack(rows)


def draw_outlined(frame: Pixels, true: Pixels, predicted: NDArray[np.bool_] | None) -> Pixels:
    """Return one cell of the picture."""
    size = (SIDE_SHOWN, SIDE_SHOWN)
    cell = np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    outlines = [(true, TRUE_COLOR)]
    if predicted is not None:
        outlines.append((predicted.astype(np.uint8), PREDICTED_COLOR))
    for mask, color in outlines:
        shape = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        lines, _ = cv2.findContours(shape, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(cell, lines, -1, color, 1)
    return np.asarray(cell, dtype=np.uint8)


@dataclass(slots=True)
class Speed:
    """How fast a training runs: seconds of its steps, and those it waited for data."""

    clips_per_step: int
    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    _first: bool = field(default=True)

    def count(self, *, waited: float, took: float) -> None:
        """Add a step; the first is left out, since everything starts in it."""
        if not self._first:
            self.steps, self.seconds = self.steps + 1, self.seconds + took
            self.waited += waited
        self._first = False

    @property
    def share_waiting(self) -> float:
        return self.waited / self.seconds if self.seconds else 0.0

    @property
    def steps_per_s(self) -> float:
        return self.steps / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        return (
            f"{self.steps_per_s:.2f} steps/s, {self.steps_per_s * self.clips_per_step:.2f} clips/s,"
            f" {100 * self.share_waiting:.1f} % of the time waiting for data,"
            f" peak memory {peak_memory_bytes() / 1e9:.2f} GB"
        )


def peak_memory_bytes() -> int:
    """Return the most memory this process ever had: on the GPU where it used one, else resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def read_resident_bytes() -> int:
    """Return the bytes of memory that this process uses now.

    Where the system does not tell, it is the most that it ever used.
    """
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        return peak_memory_bytes()
    return int(pages.read_text().split()[1]) * resource.getpagesize()
