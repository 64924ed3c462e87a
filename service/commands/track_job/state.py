"""Where a tracking job stands: what a later run needs to go on from there, in one small file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from service.commands.track_job.results import LostMasks
from service.media.video import Source
from tamvt_client import SessionOptions

EDGE_BYTES = 1_000_000


class JobIdentity(BaseModel):
    """What must be the same for a job to go on.

    `mask`, `corrections` and a video file's `source` are digests.

    The `source` of a folder is empty: its later frames may change, or be added.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    mask: str
    reference_frame: int
    options: SessionOptions
    lost: LostMasks = "keep"
    corrections: str = ""


class TrackState(BaseModel):
    """A job's session and the first frame whose mask is not yet written.

    `url` is None for the job's own service. `next_frame` is the session's number: its frame 0 is
    the reference frame. `sent` is the digest of a folder's frames before it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: JobIdentity
    url: str | None
    session_id: str
    next_frame: int
    sent: str = ""
    done: bool = False

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Return the state in the file, None if there is none that can be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def save(self, path: Path) -> None:
        """Replaces the file at once: a reader finds the old state or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with unfinished.open("w") as file:
            file.write(self.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    def advanced(self, next_frame: int, *, sent: str = "") -> Self:
        """Return the state after one more append."""
        return self.model_copy(update={"next_frame": next_frame, "sent": sent})

    def finished(self) -> Self:
        """Return the state of a job whose masks are all there."""
        return self.model_copy(update={"done": True})


def digest_source(source: Source) -> str:
    """Return a digest that tells video files apart without reading them whole: wherever they lie.

    Of its size, beginning and end; empty for a folder.
    """
    if source.images:
        return ""
    size = source.path.stat().st_size
    digest = hashlib.sha256(f"{size}\n".encode())
    with source.path.open("rb") as file:
        digest.update(file.read(EDGE_BYTES))
        file.seek(max(0, size - EDGE_BYTES))
        digest.update(file.read())
    return digest.hexdigest()


def digest_sent(source: Source, first: int, last: int, *, before: str = "") -> str:
    """Return a digest of a folder's frames `first` to `last`, after those whose digest is `before`.

    Of their names and sizes; empty for a video file.
    """
    digest = before
    for image in source.images[first : last + 1]:
        told = f"{digest}\0{image.stat().st_size}\0".encode() + os.fsencode(image.name)
        digest = hashlib.sha256(told).hexdigest()
    return digest
