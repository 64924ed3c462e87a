"""The command `tamvt-model confidence`: are lost objects noticed, and does the memory gate help?

Objects that leave and return, made of other pictures than a calibration is fitted to, and whole
videos of `dev` are followed twice, without the gate and with it.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from tqdm import tqdm

from model.commands.calibrate import open_runtime
from model.commands.options import Graphs, Model, choose_data_folder
from model.core.contract import SHIPPED_WEIGHTS
from model.data.reappearance import DataHalf, ReappearanceVideo, make_reappearances, open_sources
from model.data.video import Video, open_video, read_mask, read_names
from model.evaluation.confidence_quality import Observation, measure_quality, observe_object
from model.evaluation.runtime import Runtime

MEASURED_HALF: DataHalf = 1
GATES = (False, True)
RETURNS = (
    "objects",
    "gate",
    "J before",
    "away: a mask",
    "away: a mask not lost",
    "J after",
    "J after, lost masks emptied",
)
VIDEOS = ("video", "gate", "J", "J, lost masks emptied", "frames lost")
QUALITY = (
    "of",
    "gate",
    "frames",
    "without a good mask",
    "calibration error raw",
    "calibrated",
    "lost: precision",
    "recall",
)


@dataclass(frozen=True, slots=True)
class Watched:
    """One clip or video, followed with or without the gate."""

    name: str
    gate: bool
    observations: tuple[Observation, ...]
    kind: str = ""  # of a clip of leaving and returning

    @property
    def returning(self) -> bool:
        return bool(self.kind)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceArguments:
    """The options of `tamvt-model confidence`."""

    graphs: Graphs = SHIPPED_WEIGHTS
    clips: Annotated[int, Parameter(help="of leaving and returning")] = 40
    seed: Annotated[int, Parameter(help="not one that was fitted to")] = 1000
    split: Annotated[str, Parameter(help="list of videos")] = "dev"
    threads: Annotated[int, Parameter(help="0: one a core")] = 0
    output: Annotated[
        Path | None, Parameter(name=("-o", "--output"), help="write tables and each frame there")
    ] = None


BY_DEFAULT = ConfidenceArguments()


def run(model: Model = "tamvt-mobile", /, *, args: ConfidenceArguments = BY_DEFAULT) -> int:
    """Print the tables; return 0."""
    root = choose_data_folder(None)
    runtime = open_runtime(args.graphs, model, threads=args.threads)
    names = read_names(root / "video" / f"{args.split}.txt")
    videos = [open_video(root / "video", name) for name in names]
    made = make_reappearances(open_sources(MEASURED_HALF), seed=args.seed, count=args.clips)
    both = chain(follow_made(runtime, made), follow_videos(runtime, videos))
    total = len(GATES) * (args.clips + len(videos))
    watched = list(tqdm(both, total=total, unit="video", leave=False))
    text = report(watched, args.split, calibrated=runtime.spec.calibration is not None)
    print(text)
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "confidence.md").write_text(text, encoding="utf-8")
        write_frames(args.output / "frames.csv", watched)
    return 0


def follow_made(runtime: Runtime, clips: Iterator[ReappearanceVideo]) -> Iterator[Watched]:
    """Yield each clip without the gate and with it."""
    for clip in clips:
        for gate in GATES:
            said = observe_object(runtime, clip.images, clip.masks, gate=gate)
            yield Watched(clip.name, gate, tuple(said), clip.kind)


def follow_videos(runtime: Runtime, videos: Sequence[Video]) -> Iterator[Watched]:
    """Yield each video likewise; the last frame does not count, as in DAVIS."""
    for video in videos:
        images = [path.read_bytes() for path in video.frames]
        masks = [read_mask(path) for path in video.masks]
        for gate in GATES:
            said = observe_object(runtime, images, masks, gate=gate)
            yield Watched(video.name, gate, tuple(said[:-1]))


def report(watched: Sequence[Watched], split: str, *, calibrated: bool) -> str:
    """Return all tables in Markdown."""
    clips = [each for each in watched if each.returning]
    videos = [each for each in watched if not each.returning]
    parts = [f"The graphs are {'' if calibrated else 'not '}calibrated."]
    if clips:
        parts += [table(RETURNS, return_rows(clips)), gain(clips)]
        parts += [table(QUALITY, yield_quality_rows(clips))]
    if videos:
        parts += [f"`{split}`:", table(VIDEOS, yield_video_rows(videos))]
        parts += [table(QUALITY, yield_quality_rows(videos))]
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows in Markdown, numbers to the right."""
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def return_rows(clips: Sequence[Watched]) -> Iterator[list[str]]:
    """Yield what `RETURNS` heads, by kind and gate; means over clips, in percent."""
    kinds = [*sorted({each.kind for each in clips}), "all"]
    for kind in kinds:
        for gate in GATES:
            chosen = [e for e in clips if e.gate is gate and kind in (e.kind, "all")]
            means = np.mean([measure_phases(each.observations) for each in chosen], axis=0)
            yield [f"{kind} ({len(chosen)})", on(gate), *(f"{100 * m:.1f}" for m in means)]


def gain(clips: Sequence[Watched]) -> str:
    """Return what the gate brings after the return, with its standard error over the clips."""
    after = {
        gate: [measure_phases(e.observations)[3] for e in clips if e.gate is gate] for gate in GATES
    }
    gains = 100 * (np.array(after[True]) - np.array(after[False]))
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.nan
    return f"J after the return, gate on less off: {gains.mean():+.1f}, standard error {error:.1f}."


def measure_phases(observations: Sequence[Observation]) -> tuple[float, float, float, float, float]:
    """Return what `RETURNS` heads, of one clip.

    J before the object leaves; the shares of the frames without it that have a mask, and that have
    one not called lost; J after its return, as it is and with lost masks emptied.
    """
    gone = [index for index, each in enumerate(observations) if each.away]
    before, after = observations[: gone[0]], observations[gone[-1] + 1 :]
    away = [observations[index] for index in gone]
    return (
        float(np.mean([each.iou for each in before])),
        float(np.mean([each.share > 0 for each in away])),
        float(np.mean([each.share > 0 and not each.lost for each in away])),
        float(np.mean([each.iou for each in after])),
        float(np.mean([score_emptied(each) for each in after])),
    )


def yield_video_rows(videos: Sequence[Watched]) -> Iterator[list[str]]:
    """Yield what `VIDEOS` heads, by video, and the means over them."""
    names = dict.fromkeys(each.name for each in videos)
    for gate in GATES:
        found = {each.name: each.observations for each in videos if each.gate is gate}
        values = {
            name: (
                float(np.mean([each.iou for each in found[name]])),
                float(np.mean([score_emptied(each) for each in found[name]])),
                float(np.mean([each.lost for each in found[name]])),
            )
            for name in names
        }
        for name, row in (*values.items(), ("all", np.mean(list(values.values()), axis=0))):
            yield [name, on(gate), *(f"{100 * value:.1f}" for value in row)]


def yield_quality_rows(watched: Sequence[Watched]) -> Iterator[list[str]]:
    """Yield what `QUALITY` heads, over all frames."""
    for gate in GATES:
        found = measure_quality(
            [s for each in watched if each.gate is gate for s in each.observations]
        )
        numbers = (found.raw_error, found.error, found.precision, found.recall)
        counts = (str(found.frames), str(found.not_good))
        yield ["all frames", on(gate), *counts, *(f"{number:.3f}" for number in numbers)]


def score_emptied(observation: Observation) -> float:
    """Return IoU where the mask of a lost object is taken away."""
    return float(observation.away) if observation.lost else observation.iou


def on(gate: bool) -> str:
    """Return `on` or `off`."""
    return "on" if gate else "off"


def write_frames(path: Path, watched: Sequence[Watched]) -> None:
    """Write one line of CSV for each frame."""
    names = ("frame", "true_share", "share", "iou", "raw", "confidence", "lost")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "gate", *names])
        for each in watched:
            for observation in each.observations:
                values = (getattr(observation, name) for name in names)
                writer.writerow([each.name, on(each.gate), *values])
