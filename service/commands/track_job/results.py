"""What a tracking job leaves: a mask for every frame, and a table of the objects' states.

OUT/masks/<stem of the image, or five digits>.png   palette PNGs
OUT/states.csv                                       frame, object, state, confidence
"""

from __future__ import annotations

import csv
import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from model.core.palette import write_label_map
from service.errors import BadOption
from tamvt_client import FrameMasksOut

LostMasks = Literal["empty", "keep"]
COLUMNS: Final = ("frame", "object", "state", "confidence")


@dataclass(frozen=True, slots=True)
class TrackResults:
    """The files of a job in its folder; `lost` says whether lost objects keep their masks."""

    out: Path
    lost: LostMasks = "keep"

    @property
    def masks(self) -> Path:
        """The folder of the masks."""
        return self.out / "masks"

    @property
    def states(self) -> Path:
        """The table of states: visible, lost, or human for a mask that was given."""
        return self.out / "states.csv"

    def name_mask_file(self, name: str) -> Path:
        """Return the file of one frame's masks."""
        return self.masks / f"{name}.png"

    def find_first_missing(self, names: Sequence[str]) -> int:
        """Return the index of the first frame without its mask or its states, or their number."""
        known = {row["frame"] for row in self._rows()}
        complete = (name in known and self.name_mask_file(name).exists() for name in names)
        return next((index for index, found in enumerate(complete) if not found), len(names))

    def begin(
        self, labels: NDArray[np.uint8], names: Sequence[str], *, kept: Sequence[str] = ()
    ) -> None:
        """Write the reference frame's mask as it was given, and the states of these frames.

        The first name is the reference's; what was known of other frames is written again later,
        unless they are `kept`, as those of the other way along the video.
        """
        self.masks.mkdir(parents=True, exist_ok=True)
        reference, *rest = names
        self.name_mask_file(reference).write_bytes(write_label_map(labels))
        given = (int(object_id) for object_id in np.unique(labels) if object_id)
        known = [[row[column] for column in COLUMNS] for row in self._rows()]
        others = {*rest, *kept} - {reference}
        with self._open("w") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows((reference, object_id, "human", 1.0) for object_id in given)
            table.writerows(row for row in known if row[0] in others)

    def write(
        self, found: Sequence[tuple[str, FrameMasksOut]], frame_size: tuple[int, int]
    ) -> None:
        """Write the masks and states of some frames, by their names."""
        for name, masks in found:
            shown = masks
            if self.lost == "empty":
                seen = tuple(item for item in masks.objects if item.state != "lost")
                shown = masks.model_copy(update={"objects": seen})
            self.name_mask_file(name).write_bytes(write_label_map(shown.label_map(frame_size)))
        with self._open("a") as file:
            csv.writer(file, lineterminator="\n").writerows(
                (name, item.object_id, item.state, round(item.confidence, 4))
                for name, masks in found
                for item in masks.objects
            )

    def states_of(self) -> dict[str, dict[int, tuple[str, float]]]:
        """Return state and confidence of each object in each frame, by the frame's name."""
        found: dict[str, dict[int, tuple[str, float]]] = {}
        for row in self._rows():
            judged = (row["state"], float(row["confidence"]))
            found.setdefault(row["frame"], {})[int(row["object"])] = judged
        return found

    def tell_of_lost(self) -> list[str]:
        """Return a sentence for each object that is lost in some frame."""
        rows = self._rows()
        lost = Counter(row["object"] for row in rows if row["state"] == "lost")
        frames = Counter(row["object"] for row in rows)
        return [
            f"object {object_id} is lost in {count} of {frames[object_id]} frames: see "
            f"{self.states}"
            for object_id, count in lost.items()
        ]

    def _rows(self) -> list[dict[str, str]]:
        """Return the table's complete rows; none where there is no table."""
        if not self.states.exists():
            return []
        with self._open("r") as file:
            return [row for row in csv.DictReader(file) if None not in row.values()]

    def _open(self, mode: str) -> IO[str]:
        # A file's name may be of any bytes.
        return self.states.open(mode, encoding="utf-8", errors="surrogateescape", newline="")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder of a job; raise BadOption where another run holds it."""
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadOption(
                f"another run writes to {out}: wait until it ends, or choose another folder"
            ) from error
        except OSError:
            pass  # a file system that locks no folders, such as NFS: nobody is kept out
        yield
    finally:
        os.close(folder)
