"""An append: frames judged one by one, cut into clips, and committed all at once or not at all."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from service.access.admission import Reservation
from service.errors import StoreUnavailable, Unavailable
from service.sessions.annotations import FRAME_BYTES
from service.sessions.backend import SessionBackend
from service.sessions.clip_commits import CommitPolicy
from service.sessions.clip_pipeline import (
    FinishedClip,
    check_not_ahead,
    find_committed_frames,
    open_pipeline,
)
from service.sessions.clips import plan
from service.sessions.frames import Limits, Source, VideoUpload, read_frames
from service.store.rates import Allowance
from service.store.records import FrameMasks, Session
from service.telemetry.stage_times import StageTimes


@dataclass(frozen=True, slots=True)
class AppendedFrames:
    """The outcome of an append. The first `replayed` of the frames were committed before.

    `allowance` is what the tenant may still have tracked, where that is limited.
    """

    session: Session
    frames: tuple[FrameMasks, ...]
    replayed: int
    allowance: Allowance | None = None


async def append(
    session: Session,
    source: Source,
    backend: SessionBackend,
    *,
    first_frame: int,
    limits: Limits,
    times: StageTimes,
    reservation: Reservation,
) -> AppendedFrames:
    """Track the frames in `source`; the caller holds the session's lock.

    Frames that are committed already, with the same bytes, are answered from the store.
    """
    check_not_ahead(first_frame, expected=session.next_frame)
    rates, allowance = backend.rates, None
    if rates is not None:  # before anything is decoded
        await rates.take_frames(session.tenant, 0)
    if not isinstance(source, VideoUpload):
        height, width = session.model_size
        reservation.take(len(source) * height * width * FRAME_BYTES)
    frames = await read_frames(
        source,
        limits,
        backend.videos,
        backend.workers,
        frame_size=session.frame_size,
        model_size=session.model_size,
    )
    if isinstance(source, VideoUpload):
        reservation.take(sum(len(frame.stored) for frame in frames))
    times.end("decode")
    found = list(
        await find_committed_frames(backend.store, session, frames, first_frame=first_frame)
    )
    times.end("store")
    replayed, fresh = len(found), frames[len(found) :]

    async def answer(clip: FinishedClip) -> None:
        found.extend(clip.frames)

    if fresh:
        if rates is not None:
            allowance = await rates.take_frames(session.tenant, len(fresh))
        try:
            opening = open_pipeline(session, backend, policy=CommitPolicy.ALL_AT_ONCE)
            async with opening as pipeline:
                retention = backend.engine(session.model).spec.retention
                for step in plan(session, fresh, backend.snapshots, retention):
                    await pipeline.add(step, times=times, on_finish=answer)
        except Unavailable:  # decision 73: the client sends them again, and that counts
            if rates is not None:
                with suppress(StoreUnavailable):
                    await rates.give_frames(session.tenant, len(fresh))
            raise
        session = pipeline.session
    return AppendedFrames(session, tuple(found), replayed, allowance)
