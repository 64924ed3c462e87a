"""The command `tamvt-model visualize`: what the model has learned and what it looks at.

The relative time encoding as a heat map (TAM-VT, figure 4a), the attention of a point over the
memory at both scales (4b), and rows of frames with errors in red.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from model.data.errors import DataError
from model.data.static import Pixels, read_rgb
from model.data.video import Video, open_video, read_names
from model.evaluation.figures import hide_frame, svg
from model.evaluation.report import errors_in_red, row_of
from model.evaluation.runtime import GraphRuntime
from model.evaluation.scoring import predict, read_predictions, read_truth
from model.evaluation.tracker import Tracker
from model.export.graph_export import describe, for_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.position import RelativeTimeEncoding
from model.networks.tamvt.build import BUILDS, build, load_weights
from model.networks.tamvt.model import TamVT
from model.training.checkpoints import CheckpointError

FIGURES = ("time", "attention", "rows")
CELL = 0.47  # inches of the heat map; 72 points each
SOFTEN = 0.75  # of the full colors, so that black words can be read on them
SVG = "http://www.w3.org/2000/svg"
QUERY_COLOR = (255, 60, 60)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tamvt-model visualize`."""
    default = SHIPPED_WEIGHTS
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--build", choices=sorted(BUILDS), default="tamvt-mobile")
    parser.add_argument("--weights", type=Path, help="checkpoint, for `time` and `attention`")
    parser.add_argument("--graphs", type=Path, default=default, help="graphs, for `rows`")
    parser.add_argument("--predictions", type=Path, help="PNGs, for `rows` instead of the graphs")
    parser.add_argument("--root", type=Path, help="folder of videos (default: TAMVT_DATA/video)")
    parser.add_argument("--videos", nargs="*", help="names (default: those of dev.txt)")
    parser.add_argument("--frame", type=int, help="frame to ask from (default: the middle one)")
    parser.add_argument("--point", type=int, nargs=2, metavar=("X", "Y"), help="pixel to ask from")
    parser.add_argument("--columns", type=int, default=6, help="frames in a row")


def run(args: argparse.Namespace) -> int:
    """Write the figures and say where; 2 where something is missing."""
    figures = args.figures or (FIGURES if args.weights else ("rows",))
    unknown = sorted(set(figures) - set(FIGURES))
    try:
        if unknown:
            raise DataError(f"no figure {', '.join(unknown)}: there are {', '.join(FIGURES)}")
        args.output.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            for path in DRAWERS[figure](args):
                print(path)
    except (DataError, CheckpointError) as error:
        print(f"tamvt-model visualize: {error}", file=sys.stderr)
        return 2
    return 0


def draw_time(args: argparse.Namespace) -> list[Path]:
    """`time.svg`: the learned table."""
    path, time = args.output / "time.svg", loaded(args).time
    if not isinstance(time, RelativeTimeEncoding):
        raise DataError(f"{args.build} has no time encoding to draw")
    path.write_text(time_svg(time), encoding="utf-8")
    return [path]


def draw_attention(args: argparse.Namespace) -> list[Path]:
    """`attention-<video>.png`: where a point of a frame looks, at strides 32 and 16."""
    model = loaded(args)
    paths = []
    for video in chosen(args):
        picture = attention_picture(model, video, frame=args.frame, point=args.point)
        paths.append(write_png(args.output / f"attention-{video.name}.png", picture))
    return paths


def draw_rows(args: argparse.Namespace) -> list[Path]:
    """`rows.png`: a row of frames for each video, wrong pixels in red."""
    rows = []
    runtime = None if args.predictions else graphs(args)
    videos = chosen(args)
    for video in videos:
        truth = read_truth(video)
        if runtime is None:
            alone = len(videos) == 1
            labels = read_predictions(args.predictions, video, truth, alone=alone)
        else:
            labels = predict(runtime, video, truth)
        places = np.linspace(1, len(video.frames) - 2, args.columns).round().astype(int)
        cells = []
        for place in places:
            path = video.frames[int(place)]
            said = labels[path.stem]
            shown = (said > 0).astype(np.uint8) if video.united else said
            cells.append(errors_in_red(read_rgb(path), shown, truth[path.stem]))
        rows.append(row_of(cells))
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    return [write_png(args.output / "rows.png", np.vstack(padded))]


DRAWERS = {"time": draw_time, "attention": draw_attention, "rows": draw_rows}


def graphs(args: argparse.Namespace) -> GraphRuntime:
    """The exported graphs; DataError where there are none."""
    if not (args.graphs / f"{args.build}_segment.onnx").is_file():
        raise DataError(f"there are no graphs of {args.build} in {args.graphs}")
    return GraphRuntime(args.graphs, args.build)


def loaded(args: argparse.Namespace) -> TamVT:
    """The build with the weights that were named, in evaluation mode."""
    if args.weights is None:
        raise DataError("`time` and `attention` need --weights")
    if not args.weights.is_file():
        raise DataError(f"there are no weights {args.weights}")
    model = build(BUILDS[args.build]).eval()
    load_weights(model, args.weights)
    return model


def chosen(args: argparse.Namespace) -> list[Video]:
    """The videos that were named, or those of `dev.txt`."""
    root = args.root or Path(os.environ.get("TAMVT_DATA", "data")) / "video"
    return [open_video(root, name) for name in args.videos or read_names(root / "dev.txt")]


def time_svg(encoding: RelativeTimeEncoding) -> str:
    """Return the table as a triangle of cells: a row for each number of entries, newest left.

    Each cell shows its factor, and tells it with four digits to the pointer (an SVG title).
    """
    rows = [encoding.row(n).tolist() for n in range(1, encoding.rows + 1)]
    spread = max(1e-6, *(abs(value - encoding.NEUTRAL) for row in rows for value in row))
    color = ScalarMappable(CenteredNorm(encoding.NEUTRAL, spread / SOFTEN), "bwr").to_rgba
    side = CELL * (encoding.rows + 1)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(aspect="equal", xlabel="age, newest first", ylabel="entries")
    titles = {}
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            name = f"cell-{y + 1}-{x}"
            axes.add_patch(Rectangle((x - 0.5, y + 0.5), 1, 1, facecolor=color(value), gid=name))
            axes.text(x, y + 1, f"{value:.2f}", ha="center", va="center", fontsize=8)
            titles[name] = f"{value:.4f}"
    ages = range(encoding.rows)
    axes.set(xlim=(-0.5, encoding.rows - 0.5), ylim=(encoding.rows + 0.5, 0.5))
    axes.set(xticks=ages, yticks=[age + 1 for age in ages])
    hide_frame(axes)
    return with_titles(svg(figure, name="time"), titles)


def with_titles(text: str, titles: Mapping[str, str]) -> str:
    """Return an SVG whose elements with these ids tell a title when one points at them."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(text)
    for element in root.iter():
        if element.get("id") in titles:
            ElementTree.SubElement(element, f"{{{SVG}}}title").text = titles[element.attrib["id"]]
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def attention_picture(
    model: TamVT, video: Video, *, frame: int | None, point: list[int] | None
) -> Pixels:
    """The asking frame with its point, then the memory, newest first; a row for each scale."""
    served = for_serving(model)
    runtime = TorchRuntime(served, describe(model, digest="0" * 64))
    truth = read_truth(video)
    index = len(video.frames) // 2 if frame is None else frame
    if not 1 <= index < len(video.frames):
        raise DataError(f"{video.name} has no frame {index} after its first")
    tracker = Tracker(runtime, video.frames[0].read_bytes(), truth[video.frames[0].stem])
    for _ in tracker.track(path.read_bytes() for path in video.frames[1:index]):
        pass
    asked = read_rgb(video.frames[index])
    x, y = point or center_of(truth[video.frames[index].stem])
    if not (0 <= x < asked.shape[1] and 0 <= y < asked.shape[0]):
        raise DataError(f"({x}, {y}) lies outside of {video.name}")
    newest = sorted(tracker.memory.entries, key=lambda entry: -entry.frame)
    cells = [read_rgb(video.frames[entry.frame]) for entry in newest]
    own = cv2.circle(asked.copy(), (x, y), max(3, asked.shape[0] // 60), QUERY_COLOR, -1)
    share = (x / asked.shape[1], y / asked.shape[0])
    rows = []
    for stride in (32, 16) if served.matching_s16 is not None else (32,):
        heat = attention(served, tracker, cv2.resize(asked, tracker.size[::-1]), share, stride)
        looked = [
            overlaid(cell, heat[entry.slot]) for cell, entry in zip(cells, newest, strict=True)
        ]
        rows.append(row_of([np.asarray(own, dtype=np.uint8), *looked], height=140))
    return np.vstack(rows)


def attention(
    served: TamVT,
    tracker: Tracker,
    frame: NDArray[np.generic],
    share: tuple[float, float],
    stride: int,
) -> NDArray[np.float32]:
    """Attention weights (N, h, w) of the token at `share` (x, y) of the frame, mean over heads.

    They sum to 1 over all entries, by slot.
    """
    inputs = tracker.inputs([np.asarray(frame, dtype=np.uint8)])
    height, width = (side // stride for side in tracker.size)
    with torch.inference_mode():
        seen = served.look(served.normalize(torch.from_numpy(inputs["frames"][0])))
        matching, tokens = served.matching_s32, seen.tokens_s32
        if stride == 16 and served.matching_s16 is not None:
            matching, tokens = served.matching_s16, seen.tokens_s16
        place = int(share[1] * height) * width + int(share[0] * width)
        heads = (matching.heads, -1)
        query = matching.query(matching.norm(tokens[0, place])).unflatten(0, heads)  # (P, C / P)
        keys = torch.from_numpy(inputs[f"key_s{stride}"][0]).float()  # (N, T, C)
        recency = served.recency(torch.from_numpy(inputs["age"]))
        factor = recency.factor[0] * matching.channels**-0.5
        timed = (keys * factor[:, None, None]).flatten(0, 1).unflatten(1, heads)  # (N * T, P, C/P)
        logits = torch.einsum("pc,npc->pn", query, timed)
        if recency.bias is not None:
            logits = logits + recency.bias[0].repeat_interleave(keys.shape[1])
        weights = logits.softmax(dim=-1).mean(dim=0)
    return weights.reshape(-1, height, width).numpy()


def overlaid(image: Pixels, heat: NDArray[np.float32]) -> Pixels:
    """An entry's frame in gray under its attention, brightest where it is strongest."""
    height, width = image.shape[:2]
    large = np.asarray(cv2.resize(heat / max(float(heat.max()), 1e-9), (width, height)))
    colored = cv2.applyColorMap((255 * large).clip(0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = 0.4 * gray + 0.6 * cv2.cvtColor(colored, cv2.COLOR_BGR2RGB)
    return mixed.astype(np.uint8)


def center_of(labels: Pixels) -> tuple[int, int]:
    """The pixel (x, y) of an object farthest from its outline; the middle if there is none."""
    inside = (labels > 0).astype(np.uint8)
    if not inside.any():
        return labels.shape[1] // 2, labels.shape[0] // 2
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return int(x), int(y)


def write_png(path: Path, image: Pixels) -> Path:
    """Write an RGB picture."""
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path
