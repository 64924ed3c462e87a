"""Sending a source's frames to a session, append by append, as the command line does."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from service.errors import BadVideo
from service.media.video import Source, SourceFrame
from tamvt_client import Client, FrameMasksOut, Rejected, SessionOut

# What may be the fault of one frame, so that the others are sent without it.
OF_ONE_FRAME = frozenset({400, 413, 422})


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
    stops: Collection[int] = (),
) -> Iterator[Sent]:
    """Send the frames from `first_frame` (of the session) on, until the source ends.

    The session's frame 0 is the source's `reference_frame`. The first append is one clip, so that
    soon something is known of how long the rest takes; an append ends at each of the `stops`
    (frames of the session), so that the caller may correct it. A frame that cannot be read, or that
    the service refuses, is a BadVideo that names it; the frames before it are sent all the same.
    """
    frames = source.frames(first=reference_frame + first_frame)
    error, most = None, session.clip_length
    while error is None:
        batch: list[SourceFrame] = []
        try:
            while len(batch) < most and (frame := next(frames, None)):
                batch.append(frame)
                if frame.number - reference_frame in stops:
                    break
        except BadVideo as broken:
            error = broken
        if batch:
            parts = []
            for sent in _append(client, session, source, tuple(batch), reference=reference_frame):
                parts.append(len(sent.frames))
                yield sent
            if len(parts) > 1:  # so many frames at once are too much for the service
                frames_per_append = max(parts)
            most = frames_per_append
        elif error is None:
            return
    raise error


def _append(
    client: Client,
    session: SessionOut,
    source: Source,
    batch: tuple[SourceFrame, ...],
    *,
    reference: int,
) -> Iterator[Sent]:
    """Send some frames at once; if they are refused clip by clip, and then one by one."""
    started = time.perf_counter()
    try:
        answer = client.append(
            session.session_id,
            [frame.image for frame in batch],
            first_frame=batch[0].number - reference,
        )
    except Rejected as error:
        if error.problem.status not in OF_ONE_FRAME:
            raise
        if len(batch) == 1:
            name = source.name_of(batch[0].number)
            _, known, said = str(error).rpartition("frame 1 of the request")
            raise BadVideo(f"{name}{said}" if known else f"{name}: {error}") from error
        step = session.clip_length if len(batch) > session.clip_length else 1
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            yield from _append(client, session, source, part, reference=reference)
    else:
        yield Sent(batch, answer.frames, time.perf_counter() - started)


def round_to_clips(most: int, *, clip_length: int) -> int:
    """Return the most frames up to `most` that make whole clips, at least one clip."""
    return max(clip_length, most // clip_length * clip_length)
