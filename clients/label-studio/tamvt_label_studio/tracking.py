"""Tracking the boxes of a video: a session of the service for each task, taken up again each time.

A call tracks as far as its time allows and answers with all that is known; the next one goes on.
Where a person drew something new at an earlier frame, the session goes back to that frame, is
corrected there, and goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from tamvt_client import (
    Client,
    ClientError,
    FrameMasksOut,
    NotFound,
    ObjectPrompt,
    SessionOptions,
)
from tamvt_label_studio.errors import NoPrediction
from tamvt_label_studio.film import Film
from tamvt_label_studio.regions import (
    Boxes,
    Region,
    VideoRegions,
    answered,
    by_person,
    in_percent,
    in_pixels,
)

FRAMES_AT_ONCE: Final = 8

Picture = tuple[int, bytes, tuple[int, int]]


class VideoJob(BaseModel):
    """Where a task stands: its session, what a person drew, and what was answered.

    Frames are Label Studio's, pictures the file's: the session's frame 0 is picture `first`, and
    `tracked` the first picture that is not tracked yet.
    """

    session_id: str = ""
    first: int = 0
    tracked: int = 0
    size: tuple[int, int] = (0, 0)
    ids: dict[str, int] = {}
    drawn: Boxes = {}
    given: Boxes = {}
    hidden: dict[str, list[int]] = {}


class VideoTracker:
    """Tracks the boxes of tasks; a call takes at most `seconds`. Calls wait for each other."""

    def __init__(
        self, client: Client, state: Path, *, model: str | None = None, seconds: float = 60.0
    ) -> None:
        self._client = client
        self._folder = state / "jobs"
        self._options = SessionOptions(model=model)
        self._seconds = seconds
        self._lock = threading.Lock()

    def track(self, key: str, film: Film, regions: VideoRegions) -> list[Region]:
        """Return the regions with what could be tracked in time.

        `key` tells the task. Raise NoPrediction where no box is drawn, and ClientError where the
        service does not answer; what was tracked until then is kept.
        """
        until = time.monotonic() + self._seconds
        if not any(regions.drawn.values()):
            raise NoPrediction("draw a box around each object first")
        file = self._folder / f"{sha256(key.encode()).hexdigest()[:32]}.json"
        with self._lock:
            job = self._load(file)
            session_before = job.session_id
            job = self._taken_up(job, film, regions)
            self._save(file, job)
            if session_before not in ("", job.session_id):
                with suppress(ClientError):  # what is left of it expires
                    self._client.delete(session_before)
            prompts = _by_picture(job.drawn, film)
            with closing(_batches(film, job, prompts)) as batches:
                for batch in batches:
                    self._append(job, film, batch, prompts)
                    self._save(file, job)
                    if time.monotonic() > until:
                        break
        rate, count, duration = film.rate, film.frames_count, film.duration
        return [
            answered(
                region,
                # What a person drew is kept as it is.
                job.given.get(region_id, {}) | job.drawn.get(region_id, {}),
                job.hidden.get(region_id, ()),
                frames_count=count,
                duration=duration,
                rate=rate,
            )
            for region_id, region in regions.regions.items()
        ]

    def _taken_up(self, job: VideoJob, film: Film, regions: VideoRegions) -> VideoJob:
        """Return the task's job, with a session that stands before the first thing that is new."""
        drawn = by_person(regions.drawn, job.given)
        drawn = {key: boxes for key, boxes in drawn.items() if boxes}
        before, now = _by_picture(job.drawn, film), _by_picture(drawn, film)
        changed = min(
            (n for n in before.keys() | now.keys() if before.get(n) != now.get(n)), default=None
        )
        if changed is None and self._is_alive(job):
            return job
        if changed is not None and before.get(changed, {}).keys() - now.get(changed, {}).keys():
            changed -= 1  # what was drawn there is deleted: it is tracked there again
        first = min(now)
        if changed is None or changed <= job.first or first != job.first or not self._is_alive(job):
            return self._begun(film, drawn, first)
        if changed < job.tracked:
            with closing(film.pictures(job.first)) as pictures:
                # They are asked for in increasing order: one at a time is in memory.
                session = self._client.rewind(
                    job.session_id,
                    changed - job.first,
                    # A film that is shorter by now has none, which is refused.
                    lambda frame: next(
                        (data for n, data, _ in pictures if n == job.first + frame), b""
                    ),
                )
            shown = film.shown_as(changed)
            job.session_id, job.tracked = session.session_id, changed + 1
            job.given = {
                key: {frame: box for frame, box in boxes.items() if frame <= shown}
                for key, boxes in job.given.items()
            }
            job.hidden = {
                key: [frame for frame in frames if frame <= shown]
                for key, frames in job.hidden.items()
            }
            if boxes := now.get(changed):
                self._correct(job, boxes)
        job.drawn = drawn
        return job

    def _begun(self, film: Film, drawn: Boxes, first: int) -> VideoJob:
        with closing(film.pictures(first)) as pictures:
            number, data, size = next(pictures)
        job = VideoJob(first=number, tracked=number + 1, size=size, drawn=drawn)
        prompts = _by_picture(drawn, film)[first]
        session = self._client.start(
            data, objects=self._objects(job, prompts), options=self._options
        )
        job.session_id = session.session_id
        return job

    def _objects(
        self, job: VideoJob, boxes: dict[str, tuple[float, float, float, float]]
    ) -> list[ObjectPrompt]:
        for region_id in boxes:
            job.ids.setdefault(region_id, len(job.ids) + 1)
        return [
            ObjectPrompt(object_id=job.ids[region_id], box=in_pixels(box, job.size))
            for region_id, box in boxes.items()
        ]

    def _correct(self, job: VideoJob, boxes: dict[str, tuple[float, float, float, float]]) -> None:
        self._client.correct(job.session_id, objects=self._objects(job, boxes))

    def _append(
        self,
        job: VideoJob,
        film: Film,
        batch: list[Picture],
        prompts: dict[int, dict[str, tuple[float, float, float, float]]],
    ) -> None:
        """Track some pictures; where the last one has boxes of a person, they outrank the masks."""
        answer = self._client.append(
            job.session_id,
            [data for _, data, _ in batch],
            first_frame=batch[0][0] - job.first,
        )
        for (number, _, _), masks in zip(batch, answer.frames, strict=True):
            self._keep(job, film.shown_as(number), masks)
        job.tracked = batch[-1][0] + 1
        if boxes := prompts.get(batch[-1][0]):
            self._correct(job, boxes)
            for region_id in boxes:  # it is the person's there
                job.given.get(region_id, {}).pop(film.shown_as(batch[-1][0]), None)

    def _keep(self, job: VideoJob, frame: int, masks: FrameMasksOut) -> None:
        regions = {object_id: region_id for region_id, object_id in job.ids.items()}
        for found in masks.objects:
            region_id = regions[found.object_id]
            if found.area and found.state != "lost":
                box = in_percent(found, job.size)
                job.given.setdefault(region_id, {})[frame] = box
            else:
                job.hidden.setdefault(region_id, []).append(frame)

    def _is_alive(self, job: VideoJob) -> bool:
        """Return whether the job's session is still there, and where the job thinks it is."""
        if not job.session_id:
            return False
        try:
            session = self._client.session(job.session_id)
        except NotFound:
            return False
        return session.next_frame >= job.tracked - job.first

    def _load(self, file: Path) -> VideoJob:
        try:
            return VideoJob.model_validate_json(file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return VideoJob()

    def _save(self, file: Path, job: VideoJob) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        unfinished.write_text(job.model_dump_json())
        unfinished.replace(file)


def _by_picture(
    drawn: Boxes, film: Film
) -> dict[int, dict[str, tuple[float, float, float, float]]]:
    """Return boxes by picture and region, in the order of the pictures."""
    found: dict[int, dict[str, tuple[float, float, float, float]]] = {}
    for region_id, boxes in drawn.items():
        for frame, box in boxes.items():
            found.setdefault(film.picture_at(frame), {})[region_id] = box
    return dict(sorted(found.items()))


def _batches(film: Film, job: VideoJob, prompts: dict[int, Any]) -> Generator[list[Picture]]:
    """Yield the pictures that are left, some at once; one with boxes of a person ends a batch."""
    batch: list[Picture] = []
    with closing(film.pictures(job.tracked)) as pictures:
        for picture in pictures:
            batch.append(picture)
            if len(batch) == FRAMES_AT_ONCE or picture[0] in prompts:
                yield batch
                batch = []
    if batch:
        yield batch
