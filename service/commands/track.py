"""`tamvt track`: a video and a mask in, a mask for every frame out.

OUT/masks/<stem of the image, or five digits>.png   palette PNGs
OUT/overlay.mp4                                      with --overlay
OUT/.tamvt/                                          what is needed to go on after a stop
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray
from tqdm import tqdm

from model.core.mask_images import read_mask_image
from model.core.palette import read_label_map, write_label_map
from model.core.pixels import ImageLimits
from service.commands.failures import report_failures
from service.commands.sending import send_frames, whole_clips
from service.commands.track_state import JobIdentity, TrackState, source_digest
from service.errors import BadOption, BadVideo
from service.local.private_service import private_service
from service.media.images import decode_image
from service.media.overlay import paint, write_overlay
from service.media.video import Source, SourceFrame, open_source
from tamvt_client import Client, NotFound, SessionOptions, SessionOut

FRAMES_PER_APPEND = 8
# A job of our own service may be taken up again this much later.
SESSION_TTL_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be tracked, and where the masks go.

    `labels` (H, W) is the reference mask as it was read, and `mask_says` tells a person so.
    """

    source: Source
    reference_frame: int
    mask: bytes
    labels: NDArray[np.uint8]
    mask_says: tuple[str, ...]
    options: SessionOptions
    out: Path

    @property
    def masks(self) -> Path:
        """The folder of the masks."""
        return self.out / "masks"

    @property
    def state_file(self) -> Path:
        """Where the job stands."""
        return self.out / ".tamvt" / "track.json"

    @property
    def service_state(self) -> Path:
        """What the job's own service keeps."""
        return self.out / ".tamvt" / "service"

    def mask_file(self, frame: SourceFrame) -> Path:
        """The file of one frame's masks."""
        return self.masks / f"{frame.name}.png"


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrackArguments:
    """The options of `tamvt track`."""

    mask: Annotated[Path, Parameter(help="PNG of the objects in the reference frame")]
    out: Annotated[Path, Parameter(name=("-o", "--out"), help="folder for the masks")]
    overlay: Annotated[bool, Parameter(help="also write OUT/overlay.mp4")] = False
    url: Annotated[str | None, Parameter(help="a running service; without it one is started")] = (
        None
    )
    reference_frame: Annotated[int, Parameter(help="frame of the mask")] = 0
    model: Annotated[str | None, Parameter(help="name of the model (the service's own choice)")] = (
        None
    )
    clip_length: Annotated[int | None, Parameter(help="frames processed at once")] = None
    memory_size: Annotated[int | None, Parameter(help="frames remembered")] = None
    restart: Annotated[bool, Parameter(help="forget an earlier run in OUT and begin again")] = False


@report_failures("track")
def run(
    video: Annotated[Path, Parameter(help="a video file, or a folder of images")],
    /,
    *,
    args: TrackArguments,
) -> None:
    """Track, or go on where an earlier run stopped."""
    job = _job(video, args)
    if not job.state_file.exists() and any(job.masks.glob("*.png")):
        # They may be true ones, made by hand.
        raise BadOption(f"{job.masks} holds masks that no earlier run wrote; choose another folder")
    state = None if args.restart else TrackState.load(job.state_file)
    if state is not None and state.job != _identity(job):
        raise BadOption(
            f"{job.out} holds the masks of another video, mask or option; choose another folder, "
            "or add --restart"
        )
    if state is None or not state.done:
        _track(job, state, url=args.url or (state.url if state else None))
    else:
        name = job.source.path.name
        _say(f"every frame is tracked already; --restart tracks {name} again")
    if args.overlay:
        # A second pass over the video, so that it is whole after any number of stops.
        write_overlay(job.out / "overlay.mp4", _painted(job), fps=job.source.fps)
        print(f"overlay in {job.out / 'overlay.mp4'}")
    print(f"masks in {job.masks}")


def _job(video: Path, args: TrackArguments) -> Job:
    source = open_source(video)
    if args.reference_frame < 0:
        raise BadOption("--reference-frame cannot be negative")
    mask = args.mask.read_bytes()
    read = read_mask_image(mask, ImageLimits())
    shown = ", ".join(f"object {each} ({count} pixels)" for each, count in read.pixels.items())
    return Job(
        source=source,
        reference_frame=args.reference_frame,
        mask=mask,
        labels=read.labels,
        mask_says=(f"the mask shows {shown or 'no object'}", *read.notes),
        options=SessionOptions(
            model=args.model, clip_length=args.clip_length, memory_size=args.memory_size
        ),
        out=args.out,
    )


def _identity(job: Job) -> JobIdentity:
    return JobIdentity(
        source=source_digest(job.source),
        mask=sha256(job.mask).hexdigest(),
        reference_frame=job.reference_frame,
        options=job.options,
    )


def _track(job: Job, state: TrackState | None, *, url: str | None) -> None:
    """Track what is left, on the service at `url` or (None) on one of the job's own."""
    if state is not None and state.url != url:
        _say("the earlier run used another service: starting again at the first frame")
        state = None
    reference = next(job.source.frames(first=job.reference_frame), None)
    if reference is None:
        raise BadVideo(f"the video has no frame {job.reference_frame}")
    settings = {"TAMVT_SESSION_TTL_S": str(SESSION_TTL_S)}
    own = private_service(job.service_state, settings=settings)
    with nullcontext(url) if url is not None else own as address, Client(address) as client:
        if taken_up := _taken_up(client, job, state):
            session, state = taken_up
        else:
            session = client.start(reference.image, job.mask, options=job.options)
            job.masks.mkdir(parents=True, exist_ok=True)
            state = TrackState(
                job=_identity(job), url=url, session_id=session.session_id, next_frame=1
            )
            state.save(job.state_file)
            for line in job.mask_says:
                _say(line)
        job.mask_file(reference).write_bytes(write_label_map(job.labels))
        _send(client, job, session, state)
        client.delete(session.session_id)
    shutil.rmtree(job.service_state, ignore_errors=True)


def _taken_up(
    client: Client, job: Job, state: TrackState | None
) -> tuple[SessionOut, TrackState] | None:
    """The earlier run's session; None if there is none, or it is no more."""
    if state is None:
        return None
    try:
        session = client.session(state.session_id)
    except NotFound:
        _say("the earlier session has expired: starting again at the first frame")
        return None
    _say(f"going on at frame {job.reference_frame + state.next_frame}")
    # What the service has not kept is sent again; what it has kept is answered as before.
    return session, state.advanced(min(state.next_frame, session.next_frame))


def _send(client: Client, job: Job, session: SessionOut, state: TrackState) -> None:
    """Send what is left and write the masks; after each append the state is on disk."""
    appends = send_frames(
        client,
        session,
        job.source,
        reference_frame=job.reference_frame,
        first_frame=state.next_frame,
        frames_per_append=whole_clips(FRAMES_PER_APPEND, clip_length=session.clip_length),
    )
    started, before = time.perf_counter(), state.next_frame
    count = job.source.count
    with tqdm(
        total=None if count is None else count - job.reference_frame,
        initial=state.next_frame,
        unit=" frames",
        desc=job.source.path.name,
        disable=None,  # where stderr is no terminal
    ) as bar:
        for sent in appends:
            for frame, masks in zip(sent.frames, sent.masks, strict=True):
                labels = masks.label_map(session.frame_size)
                job.mask_file(frame).write_bytes(write_label_map(labels))
            state = state.advanced(state.next_frame + len(sent.frames))
            state.save(job.state_file)
            bar.update(len(sent.frames))
    state.finished().save(job.state_file)
    frames, seconds = state.next_frame - before, time.perf_counter() - started
    print(f"{frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames/s")


def _painted(job: Job) -> Iterator[NDArray[np.uint8]]:
    for frame in job.source.frames(first=job.reference_frame):
        labels = read_label_map(job.mask_file(frame).read_bytes(), ImageLimits())
        yield paint(decode_image(frame.image), labels)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
