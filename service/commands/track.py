"""`tamvt track`: a video and a mask in, a mask for every frame out.

OUT/masks/<stem of the image, or five digits>.png   palette PNGs
OUT/states.csv                                       frame, object, state, confidence
OUT/overlay.mp4                                      with --overlay
OUT/<format>/                                        with --format: for other tools
OUT/frames/                                          with --live: what was recorded
OUT/.tamvt/                                          what is needed to go on after a stop
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray
from tqdm import tqdm

from model.core.mask_images import read_mask_image
from model.core.palette import read_label_map
from model.core.pixels import ImageLimits, TooLarge
from service.commands.failures import report_failures
from service.commands.sending import round_to_clips, send_frames
from service.commands.track_job.arguments import TrackArguments
from service.commands.track_job.export import export_formats, read_prompt, segment_clicks
from service.commands.track_job.live import record_into
from service.commands.track_job.results import TrackResults, locked
from service.commands.track_job.state import JobIdentity, TrackState, digest_sent, digest_source
from service.commands.track_job.ways import backward_source, corrections_digest, read_corrections
from service.errors import BadOption, BadVideo, DamagedVideo, PictureTooLarge
from service.local.private_service import private_service
from service.media.images import decode_image
from service.media.live_video import Recording
from service.media.overlay import paint, write_overlay
from service.media.video import Source, SourceFrame, open_source
from service.settings import API_KEY, read_settings
from tamvt_client import Client, NotFound, Rejected, SessionOptions, SessionOut

FRAMES_PER_APPEND = 8
# A job of our own service may be taken up again this much later.
SESSION_TTL_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be tracked, and where the masks go.

    `labels` (H, W) is the reference mask as it was read, and `mask_says` tells a person so.
    `corrections` are masks by the number of their frame in the session. The way back is a job of
    its own, whose source is turned around; `before` names the frames that the way forward tracked.
    """

    source: Source
    reference_frame: int
    mask: bytes
    labels: NDArray[np.uint8]
    mask_says: tuple[str, ...]
    options: SessionOptions
    results: TrackResults
    limits: ImageLimits
    corrections: Mapping[int, bytes] = field(default_factory=dict)
    before: tuple[str, ...] = ()

    @property
    def out(self) -> Path:
        """The folder of all results."""
        return self.results.out

    @property
    def state_file(self) -> Path:
        """Where the job stands."""
        return self.out / ".tamvt" / ("track-back.json" if self.before else "track.json")

    @property
    def service_state(self) -> Path:
        """What the job's own service keeps."""
        return self.out / ".tamvt" / "service"

    @property
    def identity(self) -> JobIdentity:
        """What must be the same for the job to go on."""
        return JobIdentity(
            source=digest_source(self.source),
            mask=sha256(self.mask).hexdigest(),
            reference_frame=self.reference_frame,
            options=self.options,
            lost=self.results.lost,
            corrections=corrections_digest(self.corrections),
        )

    def names(self, count: int) -> list[str]:
        """Return the names of the first frames of the session, with the reference."""
        first = self.reference_frame
        return [self.source.stem_of(number) for number in range(first, first + count)]

    def turned_around(self, corrections: Mapping[int, bytes]) -> Job:
        """Return the job of the frames before the reference, from it to the first one."""
        first, state = self.reference_frame, TrackState.load(self.state_file)
        last = first + (state.next_frame if state else 1)
        return replace(
            self,
            source=backward_source(self.source, first, self.out / ".tamvt" / "backward"),
            reference_frame=0,
            mask_says=(),
            corrections={first - number: mask for number, mask in corrections.items()},
            before=tuple(self.source.stem_of(number) for number in range(first, last)),
        )

    def sent(self, next_frame: int, *, after: int = 0, before: str = "") -> str:
        """Return the digest of the frames up to one; `before` is that of those `after`."""
        first, last = self.reference_frame + after, self.reference_frame + next_frame - 1
        return digest_sent(self.source, first, last, before=before)


@report_failures("track")
def run(
    video: Annotated[str, Parameter(help="a video file, or a folder of images")],
    /,
    *,
    args: TrackArguments,
) -> None:
    """Track, or go on where an earlier run stopped."""
    if args.live is None:
        if "://" in video or (video.isdecimal() and not Path(video).exists()):
            raise BadOption(f"{video!r} is no file: --live SECONDS records a camera or a stream")
        track_video(Path(video), args)
        return
    if args.reference_frame or args.both_ways or args.corrections or args.restart:
        raise BadOption("--live begins with the first picture, and goes forward only")
    private = args.allow_private
    with record_into(args.out, video, seconds=args.live, allow_private=private) as recording:
        track_video(recording.folder, args, recording)


def track_video(video: Path, args: TrackArguments, recording: Recording | None = None) -> None:
    """Do what `tamvt track` does; raise DamagedVideo after the frames before the damage.

    With a `recording` its pictures are the video, and are tracked as they come.
    """
    source = recording.source() if recording else _open(video, args)
    job = _job(source, args)
    with locked(job.out):
        if not job.state_file.exists() and any(job.results.masks.glob("*.png")):
            # They may be true ones, made by hand.
            raise BadOption(
                f"{job.results.masks} holds masks that no earlier run wrote; choose another folder"
            )
        damage = _tracked(job, args)
        if recording:
            job = replace(job, source=recording.finished())
        if args.both_ways and job.reference_frame and not damage:
            back = job.turned_around(_corrections_of(job, args, after=False))
            damage = _tracked(back, args)
            shutil.rmtree(job.out / ".tamvt" / "backward", ignore_errors=True)
        for line in job.results.tell_of_lost():
            _say(line)
        if args.overlay:
            # A second pass over the video, so that it is whole after any number of stops.
            write_overlay(job.out / "overlay.mp4", _painted(job))
            print(f"overlay in {job.out / 'overlay.mp4'}")
        for line in export_formats(args.formats, job.results, job.source, job.limits):
            print(line)
    print(f"masks in {job.results.masks}")
    if damage:
        raise DamagedVideo(f"{damage}; the frames before it are tracked")


def _tracked(job: Job, args: TrackArguments) -> str:
    """Track what an earlier run left of a job; return what damage in the video ended it."""
    state = None if args.restart else _earlier_state(job)
    if state is not None and state.done:
        name = job.source.path.name
        _say(f"every frame is tracked already; --restart tracks {name} again")
        return ""
    try:
        _track(job, state, url=args.url or (state.url if state else None))
    except DamagedVideo as error:
        return str(error)
    return ""


def _open(video: Path, args: TrackArguments) -> Source:
    source = open_source(video, mask=args.mask)
    if source.left_out:
        _say(f"left out of {video}: {source.left_out}")
    return source


def _job(source: Source, args: TrackArguments) -> Job:
    if args.reference_frame < 0:
        raise BadOption("--reference-frame cannot be negative")
    settings = read_settings()
    limits = ImageLimits(
        settings.max_frame_bytes, settings.max_frame_width, settings.max_frame_height
    )
    if args.mask is None:
        # Here: it imports a runtime, which nothing else of this command needs.
        from service.engines.prompt_graph import find_prompt_graph

        model = find_prompt_graph(settings.weights, settings.served_models)
        mask, warnings = segment_clicks(args.click, source, args.reference_frame, model)
    else:
        mask, warnings = read_prompt(args.mask, source, args.reference_frame, limits), ()
    try:
        read = read_mask_image(mask, limits)
    except TooLarge as error:
        most = max(limits.max_width, limits.max_height)
        raise PictureTooLarge(f"the mask: {error}", limit=most) from error
    shown = ", ".join(f"object {each} ({count} pixels)" for each, count in read.pixels.items())
    job = Job(
        source=source,
        reference_frame=args.reference_frame,
        mask=mask,
        labels=read.labels,
        mask_says=(f"the mask shows {shown or 'no object'}", *read.notes, *warnings),
        options=SessionOptions(
            model=args.model,
            clip_length=args.clip_length,
            memory_size=args.memory_size,
            short_side=args.short_side,
        ),
        results=TrackResults(args.out, lost=args.lost),
        limits=limits,
    )
    return replace(job, corrections=_corrections_of(job, args, after=True))


def _corrections_of(job: Job, args: TrackArguments, *, after: bool) -> dict[int, bytes]:
    """Return the corrections after the reference frame, by the session's numbers; or all before it.

    The latter by the source's numbers. BadOption for one that no run would reach.
    """
    first = job.reference_frame
    given = read_corrections(args.corrections, job.source, job.limits)
    for number in given:
        if number == first or (number < first and not args.both_ways):
            raise BadOption(
                f"--corrections: {job.source.name_of(number)} is not tracked: it is "
                + ("the reference frame" if number == first else "before the reference frame")
            )
    if after:
        return {number - first: mask for number, mask in given.items() if number > first}
    return {number: mask for number, mask in given.items() if number < first}


def _earlier_state(job: Job) -> TrackState | None:
    """Return where an earlier run stopped, None to begin; BadOption if OUT is another job's.

    What is missing of its masks is made again, as far as its session still knows them.
    """
    state = TrackState.load(job.state_file)
    if state is None:
        return None
    if state.job != job.identity or state.sent != job.sent(state.next_frame):
        raise BadOption(
            f"{job.out} holds the masks of another video, mask or option; choose another folder, "
            "or add --restart"
        )
    there = job.results.find_first_missing(job.names(state.next_frame))
    if not state.done:
        return state.advanced(max(1, there), sent=job.sent(max(1, there)))
    end = len(job.source.images) - job.reference_frame
    if there == state.next_frame >= end:
        return state
    why = "some masks are missing" if there < state.next_frame else "there are more frames now"
    _say(f"{why}, and the finished session is no more: starting again at the first frame")
    return None


def _track(job: Job, state: TrackState | None, *, url: str | None) -> None:
    """Track what is left, on the service at `url` or (None) on one of the job's own."""
    if state is not None and state.url != url:
        _say("the earlier run used another service: starting again at the first frame")
        state = None
    try:
        reference = next(job.source.frames(first=job.reference_frame), None)
    except DamagedVideo as error:  # before anything is tracked
        raise BadVideo(str(error)) from error
    if reference is None:
        raise BadVideo(f"the video has no frame {job.reference_frame}")
    settings = {"TAMVT_SESSION_TTL_S": str(SESSION_TTL_S)}
    own = private_service(job.service_state, settings=settings)
    # From the environment: everybody on a machine sees the arguments of a command.
    key = os.environ.get(API_KEY, "") if url is not None else ""
    with (
        nullcontext(url) if url is not None else own as address,
        Client(address, key=key) as client,
    ):
        taken_up = _taken_up(client, job, state)
        session, state = taken_up or _started(client, job, reference, url=url)
        job.results.begin(job.labels, job.names(state.next_frame), kept=job.before)
        _send(client, job, session, state)
        client.delete(session.session_id)
    shutil.rmtree(job.service_state, ignore_errors=True)


def _started(
    client: Client, job: Job, reference: SourceFrame, *, url: str | None
) -> tuple[SessionOut, TrackState]:
    try:
        session = client.start(reference.image, job.mask, options=job.options)
    except Rejected as error:
        _, known, said = str(error).partition("the frame: ")
        name = job.source.name_of(reference.number)
        raise BadVideo(f"{name}: {said}" if known else str(error)) from error
    for line in job.mask_says:
        _say(line)
    state = TrackState(
        job=job.identity, url=url, session_id=session.session_id, next_frame=1, sent=job.sent(1)
    )
    state.save(job.state_file)
    return session, state


def _taken_up(
    client: Client, job: Job, state: TrackState | None
) -> tuple[SessionOut, TrackState] | None:
    """Return the earlier run's session; None if there is none, or it is no more."""
    if state is None:
        return None
    try:
        session = client.session(state.session_id)
    except NotFound:
        _say("the earlier session has expired: starting again at the first frame")
        return None
    # What the service has not kept is sent again; what it has kept is answered as before.
    next_frame = min(state.next_frame, session.next_frame)
    _say(f"going on at frame {job.reference_frame + next_frame}")
    return session, state.advanced(next_frame, sent=job.sent(next_frame))


def _send(client: Client, job: Job, session: SessionOut, state: TrackState) -> None:
    """Send what is left and write the masks; after each append the state is on disk."""
    appends = send_frames(
        client,
        session,
        job.source,
        reference_frame=job.reference_frame,
        first_frame=state.next_frame,
        frames_per_append=round_to_clips(FRAMES_PER_APPEND, clip_length=session.clip_length),
        stops=job.corrections,
    )
    started, before = time.perf_counter(), state.next_frame
    count = job.source.count
    with tqdm(
        total=None if count is None else count - job.reference_frame,
        initial=state.next_frame,
        unit=" frames",
        desc=f"{job.source.path.name}{', backward' if job.before else ''}",
        disable=None,  # where stderr is no terminal
    ) as bar:
        for sent in appends:
            names = [frame.name for frame in sent.frames]
            masks = list(sent.masks)
            number = sent.frames[-1].number - job.reference_frame
            if (correction := job.corrections.get(number)) is not None:
                masks[-1] = client.correct(session.session_id, correction, frame=number)
            job.results.write(list(zip(names, masks, strict=True)), session.frame_size)
            after, until = state.next_frame, state.next_frame + len(sent.frames)
            state = state.advanced(until, sent=job.sent(until, after=after, before=state.sent))
            state.save(job.state_file)
            bar.update(len(sent.frames))
    state.finished().save(job.state_file)
    frames, seconds = state.next_frame - before, time.perf_counter() - started
    print(f"{frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames/s")


def _painted(job: Job) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    with suppress(DamagedVideo):  # told already
        for frame in job.source.frames():
            file = job.results.name_mask_file(frame.name)
            if not file.exists():  # before the reference frame
                continue
            mask = file.read_bytes()
            yield frame.time_s, paint(decode_image(frame.image), read_label_map(mask, job.limits))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
