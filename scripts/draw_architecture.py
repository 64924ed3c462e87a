"""Draw docs/images/architecture.svg: `python -m scripts.draw_architecture`.

The rooms of the service and of the model, and the way of a frame through them. The picture follows
the reader's light or dark colors.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from html import escape
from pathlib import Path

TARGET = Path(__file__).parents[1] / "docs" / "images" / "architecture.svg"
WIDTH, HEIGHT = 1060, 660
STYLE = """
svg { --paper: #ffffff; --group: #f3f5f4; --box: #ffffff; --ink: #1d2524; --faint: #5b6866;
  --line: #a9b5b2; --way: #15655f; --truth: #fdf3dc; --edge: #b98a1f; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #12181a; --group: #1a2224; --box: #232d2f; --ink: #e8eeec; --faint: #a3b1ae;
    --line: #4c5a58; --way: #5cc4b8; --truth: #3a3018; --edge: #d9ac45; } }
text { font: 15px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
.name { font-weight: 600; } .note { font-size: 12.5px; fill: var(--faint); }
.group { fill: var(--group); stroke: var(--line); } .box { fill: var(--box); stroke: var(--line); }
.truth { fill: var(--truth); stroke: var(--edge); } .maybe { stroke-dasharray: 5 4; }
.way { fill: none; stroke: var(--way); stroke-width: 2; marker-end: url(#head); }
.both { marker-start: url(#head); } .head { fill: var(--way); }
"""


@dataclass(frozen=True, slots=True)
class Box:
    """A room: its place in the picture, its name and what it does, a line each."""

    x: int
    y: int
    width: int
    height: int
    name: str
    notes: tuple[str, ...] = ()
    kind: str = "box"

    def draw(self) -> str:
        """Return the box as SVG, its lines centered; a group has its name at the top left."""
        frame = (
            f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.width}" '
            f'height="{self.height}" rx="10"/>'
        )
        if self.kind == "group":
            return frame + write(self.x + 16, self.y + 26, self.name, "name")
        middle = self.x + self.width // 2
        top = self.y + (self.height - 18 * len(self.notes)) // 2 + 5
        lines = [write(middle, top, self.name, "name", anchor="middle")]
        lines += [
            write(middle, top + 18 * row, note, "note", anchor="middle")
            for row, note in enumerate(self.notes, start=1)
        ]
        return frame + "".join(lines)


def write(x: int, y: int, text: str, style: str, *, anchor: str = "start") -> str:
    """Return a line of text as SVG."""
    place = f'class="{style}" x="{x}" y="{y}" text-anchor="{anchor}"'
    return f"<text {place}>{escape(text)}</text>"


def arrow(*points: tuple[int, int], both: bool = False) -> str:
    """Return a line through the points with a head at its end, or at both ends."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline class="way{" both" if both else ""}" points="{path}"/>'


BOXES = (
    Box(220, 20, 600, 400, "service/: the gateway, without torch", kind="group"),
    Box(220, 450, 820, 190, "model/: needs torch, except core/", kind="group"),
    Box(20, 90, 160, 60, "Python", ("clients/python",)),
    Box(20, 170, 160, 60, "JavaScript", ("clients/javascript",)),
    Box(20, 250, 160, 60, "the page", ("service/web",)),
    Box(240, 75, 150, 80, "http", ("REST, forms,", "problems")),
    Box(240, 235, 150, 80, "stream", ("WebSocket, credits,", "resume")),
    Box(
        440,
        140,
        160,
        110,
        "sessions",
        ("the clip pipeline,", "corrections, forks,", "session locks"),
    ),
    Box(650, 60, 150, 80, "media", ("images, video,", "overlays")),
    Box(650, 170, 150, 80, "engines", ("the model and", "the bank, a cache")),
    Box(650, 280, 150, 80, "store", ("one atomic commit", "per append")),
    Box(880, 170, 160, 80, "Triton", ("optional: many", "sessions at once"), "box maybe"),
    Box(880, 280, 160, 80, "Redis", ("holds the truth:", "memory and masks"), "truth"),
    Box(240, 372, 130, 34, "access"),
    Box(383, 372, 130, 34, "telemetry"),
    Box(526, 372, 130, 34, "server"),
    Box(669, 372, 131, 34, "local"),
    Box(240, 500, 130, 60, "data", ("samples, videos",)),
    Box(400, 500, 130, 60, "training", ("losses, trainer",)),
    Box(560, 500, 130, 60, "networks", ("TAM-VT",)),
    Box(720, 500, 140, 60, "export", ("two ONNX graphs",)),
    Box(890, 500, 130, 60, "evaluation", ("J and F, report",)),
    Box(240, 580, 780, 44, "core: what both halves agree on: pixels, masks, memory, confidence"),
)
ARROWS = (
    arrow((180, 120), (240, 112), both=True),
    arrow((180, 200), (212, 200), (212, 262), (240, 270), both=True),
    arrow((180, 280), (240, 285), both=True),
    arrow((390, 120), (440, 170), both=True),
    arrow((390, 270), (440, 220), both=True),
    arrow((600, 165), (650, 110), both=True),
    arrow((600, 195), (650, 205), both=True),
    arrow((600, 225), (650, 310), both=True),
    arrow((800, 210), (880, 210), both=True),
    arrow((800, 320), (880, 320), both=True),
    arrow((370, 530), (400, 530)),
    arrow((530, 530), (560, 530), both=True),
    arrow((690, 530), (720, 530)),
    arrow((860, 530), (890, 530)),
    arrow((790, 500), (790, 435), (850, 435), (850, 230), (802, 230)),
)


def draw() -> str:
    """Return the whole picture as SVG."""
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="head" d="M0 0 8 4 0 8z"/></marker>'
    )
    parts = [box.draw() for box in BOXES]
    groups, rooms = parts[:2], parts[2:]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The rooms of TAM-VT Serve and the way of a frame through them</title>",
        f"<style>{STYLE}</style><defs>{head}</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--paper)"/>',
        *groups,
        *ARROWS,
        *rooms,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=TARGET, help="where to write it")
    parser.parse_args().to.write_text(draw())


if __name__ == "__main__":
    main()
