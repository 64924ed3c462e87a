"""`tamvt demo`: start the service, track a sample over HTTP as any client would, show the result.

OUT/<name>/overlay.mp4          the video with the masks painted over it
OUT/<name>/contact-sheet.png    twelve frames of it
OUT/<name>/masks/               palette PNGs
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray
from tqdm import tqdm

from model.core.j_and_f import SequenceScores
from model.core.palette import read_label_map, write_label_map
from model.core.pixels import ImageLimits
from service.commands.failures import report_failures
from service.commands.sending import send_frames
from service.errors import BadOption
from service.local.private_service import private_service
from service.media.images import decode_image, encode_png
from service.media.overlay import contact_sheet, paint, space_evenly, write_overlay
from service.media.sample import BUILT_IN, SampleVideo, find_sample_video, write_sample
from service.media.video import Source, open_source
from tamvt_client import Client, SessionOut

SHEET_FRAMES = 12
LEAST_SCORED = 3  # the first and the last frame do not count


@dataclass(frozen=True, slots=True)
class DemoRun:
    """A clip whose masks are on disk, and what it took; `names` are the frames' stems."""

    clip: SampleVideo
    source: Source
    session: SessionOut
    names: tuple[str, ...]
    clip_ms: tuple[float, ...]
    seconds: float
    masks: Path

    def labels(self, name: str) -> NDArray[np.uint8]:
        """Return the label map (H, W) of the frame with this name."""
        return _read_labels(self.masks / f"{name}.png")


@dataclass(frozen=True, slots=True)
class Scores:
    """J and F in percent, the mean over frames and objects, as DAVIS counts."""

    j: float
    f: float


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DemoArguments:
    """The options of `tamvt demo`."""

    video: Annotated[
        Path | None, Parameter(help="your own video: a file or a folder of images")
    ] = None
    mask: Annotated[Path | None, Parameter(help="PNG of the objects in its first frame")] = None
    sample: Annotated[
        str | None,
        Parameter(help=f"a video in TAMVT_DATA, or {BUILT_IN}, the one that is built in"),
    ] = None
    out: Annotated[Path, Parameter(name=("-o", "--out"), help="folder")] = Path("demo")
    url: Annotated[str | None, Parameter(help="a running service; without it one is started")] = (
        None
    )


BY_DEFAULT = DemoArguments()


@report_failures("demo")
def run(args: DemoArguments = BY_DEFAULT) -> None:
    """Track the user's own video, else the sample asked for, else the best one there is."""
    if (args.video is None) != (args.mask is None):
        raise BadOption("your own video needs both --video and --mask (VIDEO and MASK for make)")
    if args.video is not None and args.mask is not None:
        clip = SampleVideo(name=args.video.stem, video=args.video, mask=args.mask, truth=None)
    else:
        data = Path(os.environ.get("TAMVT_DATA") or "data")
        found = find_sample_video(data, name=args.sample)
        clip = found or write_sample(args.out / "sample" / BUILT_IN)
    out = args.out / clip.name
    with ExitStack() as stack:
        url = args.url
        if url is None:
            state = stack.enter_context(tempfile.TemporaryDirectory(prefix="tamvt-demo-"))
            url = stack.enter_context(private_service(Path(state)))
        client = stack.enter_context(Client(url))
        print(f"the service answers at {url}", flush=True)
        tracked = track_clip(client, clip, masks=out / "masks")
    overlay, sheet = out / "overlay.mp4", out / "contact-sheet.png"
    write_overlay(overlay, _painted(tracked))
    chosen = set(space_evenly(len(tracked.names), most=SHEET_FRAMES))
    painted = enumerate(picture for _, picture in _painted(tracked))
    shown = [item for item in painted if item[0] in chosen]
    sheet.write_bytes(encode_png(contact_sheet(shown)))
    print(report(tracked, score(tracked)))
    print(f"masks          {tracked.masks}\noverlay video  {overlay}\ncontact sheet  {sheet}")


def track_clip(client: Client, clip: SampleVideo, *, masks: Path) -> DemoRun:
    """Track the whole video, one append for each clip of the model, and write its masks.

    Raise BadOption where they would replace the given ones.
    """
    given = {clip.mask.parent, clip.truth or clip.mask.parent}
    if masks.resolve() in {folder.resolve() for folder in given}:
        raise BadOption(f"{masks} holds the true masks; choose another folder with --out")
    source = open_source(clip.video, mask=clip.mask)
    reference = next(source.frames())
    mask = clip.mask.read_bytes()
    session = client.start(reference.image, mask)
    masks.mkdir(parents=True, exist_ok=True)
    labels = _read_labels(clip.mask)
    (masks / f"{reference.name}.png").write_bytes(write_label_map(labels))
    started = time.perf_counter()
    timed = list(_append_all(client, session, source, masks))
    seconds = time.perf_counter() - started
    client.delete(session.session_id)
    return DemoRun(
        clip=clip,
        source=source,
        session=session,
        names=(reference.name, *(name for names, _ in timed for name in names)),
        clip_ms=tuple(milliseconds for _, milliseconds in timed),
        seconds=seconds,
        masks=masks,
    )


def _append_all(
    client: Client, session: SessionOut, source: Source, masks: Path
) -> Iterator[tuple[list[str], float]]:
    """Return the names of each append's frames and the milliseconds until its answer."""
    appends = send_frames(
        client,
        session,
        source,
        reference_frame=0,
        first_frame=1,
        frames_per_append=session.clip_length,
    )
    total = None if source.count is None else source.count - 1
    with tqdm(total=total, unit=" frames", desc="tracking", disable=None) as bar:
        for sent in appends:
            for frame, found in zip(sent.frames, sent.masks, strict=True):
                labels = found.label_map(session.frame_size)
                (masks / f"{frame.name}.png").write_bytes(write_label_map(labels))
            bar.update(len(sent.frames))
            yield [frame.name for frame in sent.frames], sent.seconds * 1000


def score(tracked: DemoRun) -> Scores | None:
    """Return the scores where the truth of every frame is known, None elsewhere."""
    truth, names = tracked.clip.truth, tracked.names
    if truth is None or len(names) < LEAST_SCORED:
        return None
    expected = [_read_labels(truth / f"{name}.png") for name in names]
    found = [tracked.labels(name) for name in names]
    each = [
        SequenceScores.of(
            [labels == item.object_id for labels in found],
            [labels == item.object_id for labels in expected],
        )
        for item in tracked.session.objects
    ]
    return Scores(
        j=100 * float(np.mean([scores.j.mean for scores in each])),
        f=100 * float(np.mean([scores.f.mean for scores in each])),
    )


def report(tracked: DemoRun, scores: Scores | None) -> str:
    """Return what was measured, a line each."""
    height, width = tracked.session.frame_size
    count, objects = len(tracked.names) - 1, len(tracked.session.objects)
    rate, plural = count / tracked.seconds, "" if objects == 1 else "s"
    lines = [
        f"video          {tracked.clip.name}, {width}x{height}, {objects} object{plural}",
        f"model          {tracked.session.model}",
        f"frames         {count} in {tracked.seconds:.2f} s, {rate:.1f} frames/s",
    ]
    if tracked.clip_ms:
        median, late = np.percentile(tracked.clip_ms, [50, 95])
        length = tracked.session.clip_length
        lines.append(
            f"latency        {median:.0f} ms median, {late:.0f} ms p95, for {length} frames"
        )
    if scores is not None:
        lines.append(f"against truth  J {scores.j:.1f}, F {scores.f:.1f}")
    return "\n".join(lines)


def _painted(tracked: DemoRun) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    for frame in tracked.source.frames():
        yield frame.time_s, paint(decode_image(frame.image), tracked.labels(frame.name))


def _read_labels(path: Path) -> NDArray[np.uint8]:
    return read_label_map(path.read_bytes(), ImageLimits())
