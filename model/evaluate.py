"""The command `tamvt-model evaluate`: scores on whole videos, from the first mask.

It runs the exported graphs through the offline loop, which a contract test holds equal to the
service: the quality that is measured is the quality that is served. Or it scores a folder of PNGs.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model.data.errors import DataError
from model.data.layouts import VIDEO_READERS, VideoSet
from model.data.static import read_rgb
from model.data.video import Video, open_video
from model.evaluation import (
    Labels,
    ObjectScore,
    predict,
    read_predictions,
    read_truth,
    score,
    write_labels,
)
from model.report import errors_in_red, page, png, row_of, worst_frames
from model.tables import markdown, write_tables
from model.verbs import GraphVerbs

WORST_SHOWN = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tamvt-model evaluate`."""
    default = Path(__file__).parent / "weights"
    parser.add_argument("model", nargs="?", default="tamvt-mobile", help="name of the graphs")
    parser.add_argument("--graphs", type=Path, default=default, help="folder of the graphs")
    parser.add_argument("--dataset", choices=sorted(VIDEO_READERS), default="shared")
    parser.add_argument("--root", type=Path, help="its folder (default: TAMVT_DATA/video)")
    parser.add_argument("--split", default="dev", help="its list of videos: dev, train, val, ...")
    parser.add_argument("--videos", nargs="*", help="only these videos of it")
    parser.add_argument("--predictions", type=Path, help="score these PNGs, run no model")
    parser.add_argument("--clip-length", type=int)
    parser.add_argument("--memory-size", type=int)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "-o", "--output", type=Path, help="write masks/, CSV tables and report.html there"
    )


def run(args: argparse.Namespace) -> int:
    """Print a table of scores; 2 where data or graphs are missing or broken."""
    try:
        videos = chosen(args)
        labelled = Predictions(args, alone=len(videos) == 1)
        scores, worst = [], {}
        for video in tqdm(videos, unit="video", leave=False):
            truth = read_truth(video)
            labels = labelled(video, truth)
            found = score(video, truth, labels)
            scores += found
            if args.output is not None and found:
                worst[video.name] = pictured(video, truth, labels, found)
    except DataError as error:
        print(f"tamvt-model evaluate: {error}", file=sys.stderr)
        return 2
    if not scores:
        print("tamvt-model evaluate: no object has a frame that counts", file=sys.stderr)
        return 2
    print(markdown(scores, labelled.rates))
    if args.output is not None:
        write_tables(args.output, scores)
        title = f"{args.predictions or args.model} on {args.dataset} {args.split}"
        (args.output / "report.html").write_text(page(title, scores, worst), encoding="utf-8")
    return 0


def chosen(args: argparse.Namespace) -> list[Video]:
    """The videos to score; a name that the list does not have is a DataError."""
    root = args.root or Path(os.environ.get("TAMVT_DATA", "data")) / "video"
    if args.dataset == "shared" and args.videos:
        return [open_video(root, name) for name in args.videos]
    videos = {video.name: video for video in VideoSet(args.dataset, root, args.split).open()}
    unknown = sorted(set(args.videos or ()) - set(videos))
    if unknown:
        raise DataError(f"{args.split} has no video {', '.join(unknown)}")
    return [videos[name] for name in args.videos or videos]


class Predictions:
    """Label maps of videos, from the graphs or a folder; `rates` are the frames a second."""

    def __init__(self, args: argparse.Namespace, *, alone: bool) -> None:
        self._alone = alone
        self._folder: Path | None = args.predictions
        self._output: Path | None = args.output
        self._memory = {"clip_length": args.clip_length, "memory_size": args.memory_size}
        self.rates: dict[str, float] = {}
        if self._folder is None:
            if not (args.graphs / f"{args.model}_segment.onnx").is_file():
                raise DataError(f"there are no graphs of {args.model} in {args.graphs}")
            self._verbs = GraphVerbs(args.graphs, args.model, threads=args.threads)

    def __call__(self, video: Video, truth: Labels) -> Labels:
        """Those of one video; they are written where the command was asked to."""
        if self._folder is not None:
            return read_predictions(self._folder, video, truth, alone=self._alone)
        start = time.perf_counter()
        labels = predict(self._verbs, video, truth, **self._memory)
        self.rates[video.name] = (len(labels) - 1) / (time.perf_counter() - start)
        if self._output is not None:
            write_labels(self._output / "masks" / video.name, labels)
        return labels


def pictured(video: Video, truth: Labels, labels: Labels, scores: Sequence[ObjectScore]) -> bytes:
    """The worst frames of a video side by side, wrong pixels in red."""
    stems = worst_frames(scores, count=WORST_SHOWN)
    frames = {path.stem: path for path in video.frames}
    cells = []
    for stem in stems:
        shown = (labels[stem] > 0).astype(np.uint8) if video.united else labels[stem]
        cells.append(errors_in_red(read_rgb(frames[stem]), shown, truth[stem]))
    return png(row_of(cells))
