"""The command `tamvt-model evaluate`: scores on whole videos, from the first mask.

It runs the exported graphs through the offline loop, which a contract test holds equal to the
service: the quality that is measured is the quality that is served. Or it runs checkpoints through
the same loop, or scores a folder of PNGs.
"""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
import torch
from cyclopts import Parameter
from tqdm import tqdm

from model.commands.comparison import Candidate, read_candidate, shorten_names, spread_table
from model.commands.options import SEVERAL, Graphs, Model, Positive, choose_data_folder
from model.core.contract import SHIPPED_WEIGHTS
from model.data.errors import DataError
from model.data.layouts import VideoLayout, VideoSet
from model.data.static import read_rgb
from model.data.video import Video, open_video
from model.evaluation.report import (
    choose_worst_frames,
    encode_png,
    join_row,
    paint_errors,
    render_page,
)
from model.evaluation.runtime import GraphRuntime, Runtime
from model.evaluation.scoring import (
    DAVIS,
    RULES,
    Labels,
    ObjectScore,
    Rules,
    Tracking,
    predict,
    read_predictions,
    read_truth,
    score,
    write_labels,
)
from model.evaluation.tables import write_markdown, write_tables
from model.training.checkpoints import locked

WORST_SHOWN = 4


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateArguments:
    """The options of `tamvt-model evaluate`."""

    graphs: Graphs = SHIPPED_WEIGHTS
    predictions: Annotated[
        Path | None,
        Parameter(help="score these PNGs, run no model"),
    ] = None
    weights: Annotated[
        tuple[Path, ...] | None,
        SEVERAL,
        Parameter(help="run these checkpoints, not the graphs"),
    ] = None
    raw: Annotated[bool, Parameter(help="their raw weights, not the averaged")] = False
    dataset: Annotated[VideoLayout, Parameter(help="how the videos are laid out")] = "shared"
    root: Annotated[Path | None, Parameter(help="its folder (default: TAMVT_DATA/video)")] = None
    split: Annotated[str, Parameter(help="its list of videos: dev, train, val, ...")] = "dev"
    videos: Annotated[
        tuple[str, ...] | None, SEVERAL, Parameter(help="only these videos of it")
    ] = None
    clip_length: Annotated[Positive | None, Parameter(help="L (default: the model's)")] = None
    memory_size: Annotated[Positive | None, Parameter(help="N (default: the model's)")] = None
    memory_gate: Annotated[
        bool | None,
        Parameter(
            negative="--no-memory-gate",
            help="do not remember objects that are lost (default: the model's)",
        ),
    ] = None
    threads: Annotated[Positive | None, Parameter(help="default: one a core")] = None
    output: Annotated[
        Path | None,
        Parameter(name=("-o", "--output"), help="write masks/, CSV tables and report.html there"),
    ] = None


BY_DEFAULT = EvaluateArguments()


def run(model: Model = "tamvt-mobile", /, *, args: EvaluateArguments = BY_DEFAULT) -> int:
    """Print tables of scores; return 0."""
    if args.predictions is not None and args.weights is not None:
        raise DataError("--predictions scores PNGs, --weights runs checkpoints: choose one")
    with nullcontext() if args.output is None else locked(args.output):
        videos = choose_videos(args)
        if args.weights is not None:
            compare(args, args.weights, videos)
        else:
            labeler = open_labeler(model, args, videos)
            evaluate(args, videos, labeler, args.output, str(args.predictions or model))
    return 0


def compare(args: EvaluateArguments, weights: Sequence[Path], videos: Sequence[Video]) -> None:
    """Print the scores of each checkpoint as they are there, then of several side by side."""
    torch.set_num_threads(args.threads or os.cpu_count() or 1)
    named = shorten_names(weights).items()
    # All are read first: a broken one is told before hours are spent on the others.
    candidates = [read_candidate(name, path, raw=args.raw) for name, path in named]
    scores = {}
    for each in candidates:
        folder: Path | None = args.output
        if folder is not None and len(candidates) > 1:
            folder = folder / each.name
        print(f"{each.path}, step {each.step}\n", flush=True)
        labeled = TrackedLabels(each.runtime, args, folder)
        scores[each.name] = evaluate(args, videos, labeled, folder, str(each.path))
        print(flush=True)
    table = spread_table(scores)
    if len(candidates) > 1:
        print(table)
    if args.output is not None:
        text = f"{describe_run(args, candidates)}\n\n{table}\n"
        (args.output / "spread.md").write_text(text, encoding="utf-8")


def describe_run(args: EvaluateArguments, candidates: Sequence[Candidate]) -> str:
    """Return what was scored, of which weights and when."""
    kind = "raw" if args.raw else "averaged"
    steps = ", ".join(f"{each.name} (step {each.step})" for each in candidates)
    return (
        f"Percent on {args.dataset} `{args.split}`, {kind} weights, fp32 on PyTorch "
        f"{torch.__version__}, {datetime.now(UTC):%Y-%m-%d}: {steps}."
    )


def choose_videos(args: EvaluateArguments) -> list[Video]:
    """Return the videos to score; raise DataError for a name that the list does not have."""
    root = args.root or choose_data_folder(None) / "video"
    if args.dataset == "shared" and args.videos:
        return [open_video(root, name) for name in args.videos]
    videos = {video.name: video for video in VideoSet(args.dataset, root, args.split).open()}
    unknown = sorted(set(args.videos or ()) - set(videos))
    if unknown:
        raise DataError(f"{args.split} has no video {', '.join(unknown)}")
    return [videos[name] for name in args.videos or videos]


class Labeler(Protocol):
    """Label maps of videos; `rates` are the frames a second of those that it made itself."""

    rates: dict[str, float]

    def __call__(self, video: Video, truth: Labels) -> Labels: ...


class StoredLabels:
    """Label maps from a folder of PNGs."""

    def __init__(self, folder: Path, rules: Rules, *, alone: bool) -> None:
        self._folder, self._rules, self._alone = folder, rules, alone
        self.rates: dict[str, float] = {}

    def __call__(self, video: Video, truth: Labels) -> Labels:
        """Return those of one video."""
        return read_predictions(self._folder, video, truth, alone=self._alone, rules=self._rules)


class TrackedLabels:
    """Label maps from a model, which are written to `folder` if there is one."""

    def __init__(self, runtime: Runtime, args: EvaluateArguments, folder: Path | None) -> None:
        self._runtime, self._folder = runtime, folder
        largest = runtime.spec.max_memory_size
        if args.memory_size is not None and args.memory_size > largest:
            raise DataError(f"the memory has room for {largest} entries, not {args.memory_size}")
        self._options = Tracking(
            clip_length=args.clip_length,
            memory_size=args.memory_size,
            memory_gate=args.memory_gate,
        )
        self.rates: dict[str, float] = {}

    def __call__(self, video: Video, truth: Labels) -> Labels:
        """Return those of one video."""
        start = time.perf_counter()
        labels = predict(self._runtime, video, truth, **self._options)
        self.rates[video.name] = (len(labels) - 1) / (time.perf_counter() - start)
        if self._folder is not None:
            write_labels(self._folder / "masks" / video.name, labels)
        return labels


def open_labeler(model: str, args: EvaluateArguments, videos: Sequence[Video]) -> Labeler:
    """Return what the command line names: a folder of PNGs, or graphs."""
    if args.predictions is not None:
        return StoredLabels(
            args.predictions, RULES.get(args.dataset, DAVIS), alone=len(videos) == 1
        )
    if not (args.graphs / f"{model}_segment.onnx").is_file():
        raise DataError(f"there are no graphs of {model} in {args.graphs}")
    try:
        runtime = GraphRuntime(args.graphs, model, threads=args.threads or 0)
    except Exception as error:  # ONNX Runtime has a class for everything that can be wrong
        reason = str(error).split("\n")[0]
        raise DataError(f"the graphs of {model} cannot be opened: {reason}") from error
    return TrackedLabels(runtime, args, args.output)


def evaluate(
    args: EvaluateArguments,
    videos: Sequence[Video],
    labeled: Labeler,
    folder: Path | None,
    name: str,
) -> list[ObjectScore]:
    """Print the scores of every object, and write them to `folder` if there is one."""
    scores, worst = [], {}
    rules = RULES.get(args.dataset, DAVIS)
    for video in tqdm(videos, unit="video", leave=False):
        truth = read_truth(video)
        labels = labeled(video, truth)
        found = score(video, truth, labels, rules)
        scores += found
        if folder is not None and found:
            worst[video.name] = draw_worst(video, truth, labels, found)
    if not scores:
        raise DataError("no object has a frame that counts")
    print(write_markdown(scores, labeled.rates))
    if folder is not None:
        write_tables(folder, scores)
        title = f"{name} on {args.dataset} {args.split}"
        (folder / "report.html").write_text(render_page(title, scores, worst), encoding="utf-8")
    return scores


def draw_worst(video: Video, truth: Labels, labels: Labels, scores: Sequence[ObjectScore]) -> bytes:
    """Return the worst frames of a video side by side as PNG, wrong pixels in red."""
    stems = choose_worst_frames(scores, count=WORST_SHOWN)
    frames = {path.stem: path for path in video.frames}
    cells = []
    for stem in stems:
        shown = (labels[stem] > 0).astype(np.uint8) if video.united else labels[stem]
        cells.append(paint_errors(read_rgb(frames[stem]), shown, truth[stem]))
    return encode_png(join_row(cells))
