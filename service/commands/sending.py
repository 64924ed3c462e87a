"""Sending a source's frames to a session, append by append, as the command line does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from service.media.video import Source, SourceFrame
from tamvt_client import Client, FrameMasksOut, SessionOut


@dataclass(frozen=True, slots=True)
class Sent:
    """One append: its frames, their masks in the same order, and how long the answer took."""

    frames: tuple[SourceFrame, ...]
    masks: tuple[FrameMasksOut, ...]
    seconds: float


def send_frames(
    client: Client,
    session: SessionOut,
    source: Source,
    *,
    reference_frame: int,
    first_frame: int,
    frames_per_append: int,
) -> Iterator[Sent]:
    """Sends the frames from `first_frame` (of the session) on, until the source ends.

    The session's frame 0 is the source's `reference_frame`.
    """
    frames = source.frames(first=reference_frame + first_frame)
    while batch := tuple(islice(frames, frames_per_append)):
        started = time.perf_counter()
        answer = client.append(
            session.session_id,
            [frame.image for frame in batch],
            first_frame=batch[0].number - reference_frame,
        )
        yield Sent(batch, answer.frames, time.perf_counter() - started)


def whole_clips(most: int, *, clip_length: int) -> int:
    """The largest number of frames up to `most` that is a number of whole clips, at least one."""
    return max(clip_length, most // clip_length * clip_length)
