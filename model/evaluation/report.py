"""Scores as one HTML page: failures first, J over time, and the worst frames as pictures."""

import base64
import html
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.palette import davis_palette
from model.data.static import Pixels
from model.evaluation.scoring import ObjectScore
from model.evaluation.tables import by_subset, by_video, mean_measures, measures

RED = (255, 0, 0)
# Colors of right pixels, by object in turn; DAVIS's first color is a red.
RIGHT = ((40, 200, 120), (70, 140, 255), (255, 205, 40), (170, 95, 255), (30, 205, 225))
WIDTH, HEIGHT = 640, 120
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1d2329; background: #fff }
table { border-collapse: collapse } td, th { padding: .2rem .7rem; text-align: right }
th:first-child, td:first-child { text-align: left } tr + tr { border-top: 1px solid #dde2e7 }
img { max-width: 100%; display: block; margin: .5rem 0 } svg { display: block; margin: .5rem 0 }
h2 { margin-top: 2.5rem } .note { color: #5b6670 }
"""


def page(title: str, scores: Sequence[ObjectScore], worst: Mapping[str, bytes]) -> str:
    """The page; `worst` are PNG pictures of each video's worst frames, by name."""
    videos = sorted(by_video(scores).items(), key=lambda item: mean_measures(item[1])["j_and_f"])
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        summary(scores),
        "<h2>Videos, worst first</h2>",
        bars({name: mean_measures(group)["j_and_f"] for name, group in videos}),
    ]
    parts += [section(name, group, worst.get(name)) for name, group in videos]
    return "\n".join(parts) + "\n</html>\n"


def summary(scores: Sequence[ObjectScore]) -> str:
    """A table of the means over all objects and over each subset."""
    names = ("j", "j_recall", "j_decay", "f", "f_recall", "f_decay", "j_tr", "j_and_f")
    heads = ("J", "recall", "decay", "F", "recall", "decay", "J_tr", "J&amp;F")
    rows = [("all", scores), *by_subset(scores).items()]
    lines = ["<table><tr><th>objects<th>count" + "".join(f"<th>{head}" for head in heads)]
    for name, group in rows:
        mean = mean_measures(group)
        cells = "".join(f"<td>{100 * mean[each]:.1f}" for each in names)
        lines.append(f"<tr><td>{html.escape(name)}<td>{len(group)}{cells}")
    return "".join(lines) + "</table>"


def section(name: str, scores: Sequence[ObjectScore], picture: bytes | None) -> str:
    """One video: J of its objects over time, and its worst frames."""
    said = "; ".join(
        f"object {score.object_id}: J {100 * m['j']:.1f}, F {100 * m['f']:.1f}"
        + (f" ({', '.join(score.subsets)})" if score.subsets else "")
        for score in scores
        for m in [measures(score)]
    )
    parts = [f"<h3 id='{html.escape(name)}'>{html.escape(name)}</h3>"]
    parts.append(f"<p class=note>{html.escape(said)}</p>{curves(scores)}")
    if picture is not None:
        data = base64.b64encode(picture).decode()
        parts.append(f"<img alt='worst frames' src='data:image/png;base64,{data}'>")
    return "".join(parts)


def bars(values: Mapping[str, float]) -> str:
    """An SVG of horizontal bars, 0 to 1, each with its name and value."""
    rows = []
    for index, (name, value) in enumerate(values.items()):
        y = 22 * index
        rows.append(
            f"<text x=0 y={y + 14} font-size=13>{html.escape(name)}</text>"
            f"<rect x=180 y={y + 3} height=14 width={400 * max(0.0, value):.1f} fill='#4878a8'/>"
            f"<text x={186 + 400 * max(0.0, value):.1f} y={y + 14} font-size=12>"
            f"{100 * value:.1f}</text>"
        )
    size = f"width={WIDTH} height={22 * len(values) + 4}"
    return f"<svg {size} role=img aria-label='J&amp;F of each video'>{''.join(rows)}</svg>"


def curves(scores: Sequence[ObjectScore]) -> str:
    """An SVG of J over time, one line for each object in its color."""
    palette = davis_palette()
    lines = [
        f"<line x1=0 x2={WIDTH} y1={y} y2={y} stroke='#dde2e7'/>" for y in (1, HEIGHT // 2, HEIGHT)
    ]
    for score in scores:
        values = score.scores.j_frames
        step = WIDTH / max(1, len(values) - 1)
        points = " ".join(
            f"{step * index:.1f},{1 + (HEIGHT - 1) * (1 - value):.1f}"
            for index, value in enumerate(values)
        )
        red, green, blue = (int(part) for part in palette[score.object_id])
        color = f"rgb({red},{green},{blue})"
        lines.append(f"<polyline points='{points}' fill=none stroke='{color}' stroke-width=1.5 />")
    size = f"width={WIDTH} height={HEIGHT + 2}"
    return f"<svg {size} role=img aria-label='J over time'>{''.join(lines)}</svg>"


def errors_in_red(image: Pixels, labels: Pixels, truth: Pixels) -> Pixels:
    """The frame (H, W, 3): right pixels in a color of their object, wrong ones in red."""
    colors = np.array(RIGHT, np.float32)[(labels.astype(int) - 1) % len(RIGHT)]
    shown = image.astype(np.float32)
    right = (labels == truth) & (labels > 0)
    wrong = labels != truth
    shown[right] = 0.5 * shown[right] + 0.5 * colors[right]
    shown[wrong] = 0.3 * shown[wrong] + 0.7 * np.array(RED, np.float32)
    return shown.astype(np.uint8)


def row_of(cells: Sequence[Pixels], *, height: int = 180) -> Pixels:
    """Pictures side by side, scaled to one height."""
    scaled = [
        cv2.resize(cell, (round(cell.shape[1] * height / cell.shape[0]), height)) for cell in cells
    ]
    return np.hstack(scaled).astype(np.uint8)


def worst_frames(scores: Sequence[ObjectScore], *, count: int) -> list[str]:
    """The frames of one video where the mean J of its objects is lowest, in order of time."""
    sums: dict[str, list[float]] = {}
    for score in scores:
        for frame, value in zip(score.frames, score.scores.j_frames, strict=True):
            sums.setdefault(frame, []).append(value)
    lowest = sorted(sums, key=lambda frame: float(np.mean(sums[frame])))[:count]
    return sorted(lowest)


def png(image: NDArray[np.uint8]) -> bytes:
    """An RGB picture as PNG."""
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()
