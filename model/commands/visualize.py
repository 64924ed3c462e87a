"""The command `tamvt-model visualize`: what the model has learned and what it looks at.

The relative time encoding as a heat map (TAM-VT, figure 4a), the attention of a point over the
memory at both scales (4b), and rows of frames with errors in red.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import cv2
import numpy as np
import torch
from cyclopts import Parameter
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from model.commands.options import SEVERAL, Graphs, Output, allow_only, choose_data_folder
from model.core.contract import SHIPPED_WEIGHTS
from model.core.frame_files import read_frame_file
from model.data.errors import DataError
from model.data.static import Pixels, read_rgb
from model.data.video import Video, open_video, read_names
from model.evaluation.figures import hide_frame, render_svg
from model.evaluation.report import join_row, paint_errors
from model.evaluation.runtime import GraphRuntime
from model.evaluation.scoring import predict, read_predictions, read_truth
from model.evaluation.tracker import OfflineTracker
from model.export.graph_export import describe
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.base import Bank, TrackingNetwork
from model.networks.position import RelativeTimeEncoding
from model.networks.registry import NETWORKS, build_network
from model.networks.weights import load_weights, read_file, read_loop

FIGURES = ("time", "attention", "rows")
CELL = 0.47  # inches of the heat map; 72 points each
SOFTEN = 0.75  # of the full colors, so that black words can be read on them
SVG = "http://www.w3.org/2000/svg"
QUERY_COLOR = (255, 60, 60)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class VisualizeArguments:
    """The options of `tamvt-model visualize`."""

    output: Output
    build: Annotated[str, Parameter(validator=allow_only(NETWORKS))] = "tamvt-mobile"
    weights: Annotated[Path | None, Parameter(help="checkpoint, for `time` and `attention`")] = None
    graphs: Annotated[Graphs, Parameter(help="graphs, for `rows`")] = SHIPPED_WEIGHTS
    predictions: Annotated[
        Path | None, Parameter(help="PNGs, for `rows` instead of the graphs")
    ] = None
    root: Annotated[Path | None, Parameter(help="folder of videos (default: TAMVT_DATA/video)")] = (
        None
    )
    videos: Annotated[
        tuple[str, ...] | None, SEVERAL, Parameter(help="names (default: those of dev.txt)")
    ] = None
    frame: Annotated[int | None, Parameter(help="frame to ask from (default: the middle one)")] = (
        None
    )
    point: Annotated[tuple[int, int] | None, Parameter(help="pixel x y to ask from")] = None
    columns: Annotated[int, Parameter(help="frames in a row")] = 6


def run(
    *named: Annotated[str, Parameter(name="FIGURE", help=f"of {', '.join(FIGURES)}")],
    args: VisualizeArguments,
) -> int:
    """Write the figures and say where; return 0."""
    figures = named or (FIGURES if args.weights else ("rows",))
    unknown = sorted(set(figures) - set(FIGURES))
    if unknown:
        raise DataError(f"no figure {', '.join(unknown)}: there are {', '.join(FIGURES)}")
    args.output.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        for path in DRAWERS[figure](args):
            print(path)
    return 0


def draw_time(args: VisualizeArguments) -> list[Path]:
    """Draw `time.svg`, the learned table."""
    path = args.output / "time.svg"
    for part in load_network(args).modules():
        if isinstance(part, RelativeTimeEncoding):
            path.write_text(draw_time_svg(part), encoding="utf-8")
            return [path]
    raise DataError(f"{args.build} has no time encoding to draw")


def draw_attention(args: VisualizeArguments) -> list[Path]:
    """Draw `attention-<video>.png`: where a point of a frame looks, a row for each stride."""
    network = load_network(args)
    paths = []
    for video in choose_videos(args):
        picture = draw_attention_picture(network, video, frame=args.frame, point=args.point)
        paths.append(write_png(args.output / f"attention-{video.name}.png", picture))
    return paths


def draw_rows(args: VisualizeArguments) -> list[Path]:
    """Draw `rows.png`: a row of frames for each video, wrong pixels in red."""
    rows = []
    runtime = None if args.predictions else open_graphs(args)
    videos = choose_videos(args)
    for video in videos:
        truth = read_truth(video)
        if runtime is not None:
            labels = predict(runtime, video, truth)
        elif args.predictions is not None:
            alone = len(videos) == 1
            labels = read_predictions(args.predictions, video, truth, alone=alone)
        places = np.linspace(1, len(video.frames) - 2, args.columns).round().astype(int)
        cells = []
        for place in places:
            path = video.frames[int(place)]
            said = labels[path.stem]
            shown = (said > 0).astype(np.uint8) if video.united else said
            cells.append(paint_errors(read_rgb(path), shown, truth[path.stem]))
        rows.append(join_row(cells))
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    return [write_png(args.output / "rows.png", np.vstack(padded))]


DRAWERS = {"time": draw_time, "attention": draw_attention, "rows": draw_rows}


def open_graphs(args: VisualizeArguments) -> GraphRuntime:
    """Open the exported graphs; raise DataError where there are none."""
    if not (args.graphs / f"{args.build}_segment.onnx").is_file():
        raise DataError(f"there are no graphs of {args.build} in {args.graphs}")
    return GraphRuntime(args.graphs, args.build)


def load_network(args: VisualizeArguments) -> TrackingNetwork:
    """Return the build with the weights that were named, in evaluation mode."""
    if args.weights is None:
        raise DataError("`time` and `attention` need --weights")
    network = build_network(args.build, **read_loop(read_file(args.weights))).eval()
    load_weights(network, args.weights)
    return network


def choose_videos(args: VisualizeArguments) -> list[Video]:
    """Return the videos that were named, or those of `dev.txt`."""
    root = args.root or choose_data_folder(None) / "video"
    return [open_video(root, name) for name in args.videos or read_names(root / "dev.txt")]


def draw_time_svg(encoding: RelativeTimeEncoding) -> str:
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
    return add_titles(render_svg(figure, name="time"), titles)


def add_titles(text: str, titles: Mapping[str, str]) -> str:
    """Return an SVG whose elements with these ids tell a title when one points at them."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(text)
    for element in root.iter():
        if element.get("id") in titles:
            ElementTree.SubElement(element, f"{{{SVG}}}title").text = titles[element.attrib["id"]]
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def draw_attention_picture(
    network: TrackingNetwork, video: Video, *, frame: int | None, point: tuple[int, int] | None
) -> Pixels:
    """Return the asking frame and the memory, newest first; a row for each stride."""
    served = prepare_serving(network)
    runtime = TorchRuntime(served, describe(network, digest="0" * 64))
    truth = read_truth(video)
    index = len(video.frames) // 2 if frame is None else frame
    if not 1 <= index < len(video.frames):
        raise DataError(f"{video.name} has no frame {index} after its first")
    tracker = OfflineTracker(runtime, read_frame_file(video.frames[0]), truth[video.frames[0].stem])
    for _ in tracker.track(map(read_frame_file, video.frames[1:index])):
        pass
    asked = read_rgb(video.frames[index])
    x, y = point or find_center(truth[video.frames[index].stem])
    if not (0 <= x < asked.shape[1] and 0 <= y < asked.shape[0]):
        raise DataError(f"({x}, {y}) lies outside of {video.name}")
    newest = sorted(tracker.memory.entries, key=lambda entry: -entry.frame)
    cells = [read_rgb(video.frames[entry.frame]) for entry in newest]
    own = cv2.circle(asked.copy(), (x, y), max(3, asked.shape[0] // 60), QUERY_COLOR, -1)
    share = (x / asked.shape[1], y / asked.shape[0])
    rows = []
    heats = measure_attention(served, tracker, cv2.resize(asked, tracker.size[::-1]), share)
    for heat in heats.values():
        entries = [
            overlay(cell, heat[entry.slot]) for cell, entry in zip(cells, newest, strict=True)
        ]
        rows.append(join_row([np.asarray(own, dtype=np.uint8), *entries], height=140))
    return np.vstack(rows)


def measure_attention(
    served: TrackingNetwork,
    tracker: OfflineTracker,
    frame: NDArray[np.generic],
    share: tuple[float, float],
) -> dict[int, NDArray[np.float32]]:
    """Return the attention (N, h, w) of the point at `share` (x, y) of a frame, by stride and slot.

    It sums to 1 over all entries of a stride.
    """
    inputs = tracker.inputs([np.asarray(frame, dtype=np.uint8)])
    with torch.inference_mode():
        features = served.encode_frames(served.normalize(torch.from_numpy(inputs["frames"][0])))
        tensors = {t.name: torch.from_numpy(inputs[t.name]).float() for t in served.bank_tensors}
        bank = Bank(tensors, torch.from_numpy(inputs["age"]))
        heats = served.attend(features, bank, x=share[0], y=share[1])
    return {stride: heat.numpy() for stride, heat in heats.items()}


def overlay(image: Pixels, heat: NDArray[np.float32]) -> Pixels:
    """Return an entry's frame in gray under its attention, brightest where it is strongest."""
    height, width = image.shape[:2]
    large = np.asarray(cv2.resize(heat / max(float(heat.max()), 1e-9), (width, height)))
    colored = cv2.applyColorMap((255 * large).clip(0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = 0.4 * gray + 0.6 * cv2.cvtColor(colored, cv2.COLOR_BGR2RGB)
    return mixed.astype(np.uint8)


def find_center(labels: Pixels) -> tuple[int, int]:
    """Return the pixel (x, y) of an object farthest from its outline; the middle without one."""
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
