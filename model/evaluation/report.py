"""Scores as one HTML page: failures first, J over time, and the worst frames as pictures."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from model.data.static import Pixels
from model.evaluation.figures import draw_bars, draw_curves
from model.evaluation.scoring import ObjectScore
from model.evaluation.tables import ERRORS, average_measures, group_by_subset, group_by_video

RED = (255, 0, 0)
# Colors of right pixels, by object in turn; DAVIS's first color is a red.
RIGHT = ((40, 200, 120), (70, 140, 255), (255, 205, 40), (170, 95, 255), (30, 205, 225))
COLUMNS = {
    "j": "J",
    "j_recall": "recall",
    "j_decay": "decay",
    "f": "F",
    "f_recall": "recall",
    "f_decay": "decay",
    "j_tr": "J_tr",
    "j_and_f": "J&F",
}


def render_page(title: str, scores: Sequence[ObjectScore], worst: Mapping[str, bytes]) -> str:
    """Return the page; `worst` are PNG pictures of each video's worst frames, by name."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    videos = sorted(
        group_by_video(scores).items(), key=lambda item: average_measures(item[1])["j_and_f"]
    )
    rows = []
    for name, group in (("all", scores), *group_by_subset(scores).items()):
        mean = average_measures(group)
        rows.append(
            (name, len(group), [mean[column] for column in COLUMNS], [mean[e] for e in ERRORS])
        )
    return environment.get_template("report.html.jinja").render(
        title=title,
        heads=COLUMNS.values(),
        rows=rows,
        bars=draw_bars({name: average_measures(group)["j_and_f"] for name, group in videos}),
        videos=[
            {
                "name": name,
                "scores": group,
                "curves": draw_curves(name, group),
                "picture": base64.b64encode(worst.get(name, b"")).decode(),
            }
            for name, group in videos
        ],
    )


def paint_errors(image: Pixels, labels: Pixels, truth: Pixels) -> Pixels:
    """Return the frame (H, W, 3): right pixels in a color of their object, wrong ones in red."""
    colors = np.array(RIGHT, np.float32)[(labels.astype(int) - 1) % len(RIGHT)]
    shown = image.astype(np.float32)
    right = (labels == truth) & (labels > 0)
    wrong = labels != truth
    shown[right] = 0.5 * shown[right] + 0.5 * colors[right]
    shown[wrong] = 0.3 * shown[wrong] + 0.7 * np.array(RED, np.float32)
    return shown.astype(np.uint8)


def join_row(cells: Sequence[Pixels], *, height: int = 180) -> Pixels:
    """Return pictures side by side, scaled to one height."""
    scaled = [
        cv2.resize(cell, (round(cell.shape[1] * height / cell.shape[0]), height)) for cell in cells
    ]
    return np.hstack(scaled).astype(np.uint8)


def choose_worst_frames(scores: Sequence[ObjectScore], *, count: int) -> list[str]:
    """Return the frames of a video where its objects' mean J is lowest, in order of time."""
    sums: dict[str, list[float]] = {}
    for score in scores:
        for frame, value in zip(score.frames, score.scores.j_frames, strict=True):
            sums.setdefault(frame, []).append(value)
    lowest = sorted(sums, key=lambda frame: float(np.mean(sums[frame])))[:count]
    return sorted(lowest)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return an RGB picture as PNG."""
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()
