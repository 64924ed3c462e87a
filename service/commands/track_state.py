"""Where a tracking job stands: what a later run needs to go on from there, in one small file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from service.media.video import Source
from tamvt_client import SessionOptions

EDGE_BYTES = 1_000_000


class JobIdentity(BaseModel):
    """What must be the same for a job to go on; `source` and `mask` are digests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    mask: str
    reference_frame: int
    options: SessionOptions


class TrackState(BaseModel):
    """A job's session and the first frame whose mask is not yet written.

    `url` is None for the job's own service. `next_frame` is the session's number: its frame 0 is
    the reference frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: JobIdentity
    url: str | None
    session_id: str
    next_frame: int
    done: bool = False

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The state in the file, None if there is none that can be read."""
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

    def advanced(self, next_frame: int) -> Self:
        """The state after one more append."""
        return self.model_copy(update={"next_frame": next_frame})

    def finished(self) -> Self:
        """The state of a job whose masks are all there."""
        return self.model_copy(update={"done": True})


def source_digest(source: Source) -> str:
    """A digest that tells videos apart without reading them whole: wherever they lie.

    Of a folder the names and sizes of its images, of a file its size, beginning and end.
    """
    digest = hashlib.sha256()
    for image in source.images:
        digest.update(f"{image.name}\0{image.stat().st_size}\n".encode())
    if not source.images:
        size = source.path.stat().st_size
        digest.update(f"{size}\n".encode())
        with source.path.open("rb") as file:
            digest.update(file.read(EDGE_BYTES))
            file.seek(max(0, size - EDGE_BYTES))
            digest.update(file.read())
    return digest.hexdigest()
