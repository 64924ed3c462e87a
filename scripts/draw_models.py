"""Draw docs/images/model-*.svg: `python -m scripts.draw_models`.

One picture for each network of docs/models.md: above the way of a frame to its masks, below the
memory that it reads, and what writes it. The pictures follow the reader's light or dark colors.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from scripts.draw_architecture import STYLE, Box, arrow

FOLDER = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1000, 300
COLUMNS = (20, 215, 410, 605, 830)  # where boxes begin
ABOVE, BELOW = 30, 190  # rows
WIDE, NARROW, TALL = 165, 150, 84


def above(column: int, name: str, *notes: str) -> Box:
    """Return a box on the way of a frame."""
    width = NARROW if column == len(COLUMNS) - 1 else WIDE
    return Box(COLUMNS[column], ABOVE, width, TALL, name, notes)


def below(column: int, name: str, *notes: str, kind: str = "box") -> Box:
    """Return a box beneath it: a memory is of the kind `truth`."""
    width = NARROW if column == len(COLUMNS) - 1 else WIDE
    return Box(COLUMNS[column], BELOW, width, TALL, name, notes, kind)


def right(column: int, row: int = ABOVE) -> str:
    """Return an arrow from a column to the next one."""
    middle = row + TALL // 2
    width = NARROW if column == len(COLUMNS) - 1 else WIDE
    return arrow((COLUMNS[column] + width, middle), (COLUMNS[column + 1], middle))


def left(column: int) -> str:
    """Return an arrow from a column below to the one before."""
    middle = BELOW + TALL // 2
    return arrow((COLUMNS[column], middle), (COLUMNS[column - 1] + WIDE, middle))


def up(column: int, *, both: bool = False) -> str:
    """Return an arrow from below to above."""
    middle = COLUMNS[column] + WIDE // 2
    return arrow((middle, BELOW), (middle, ABOVE + TALL), both=both)


def down_from_masks() -> str:
    """Return the way of the masks to what remembers them."""
    middle = COLUMNS[4] + NARROW // 2
    end = COLUMNS[3] + WIDE
    return arrow((middle, ABOVE + TALL), (middle, BELOW + TALL // 2), (end, BELOW + TALL // 2))


WAY = (right(0), right(1), right(2), right(3))
PICTURES: Mapping[str, tuple[str, tuple[Box, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "tamvt": (
            "TAM-VT: a clip reads keys that all objects share, weighed by their age",
            (
                above(0, "backbone", "a clip of 1 to 4 frames,", "once for all objects"),
                above(1, "matching", "at strides 32 and 16;", "keys times the time", "encoding"),
                above(2, "pixel decoder", "joins the strides,", "each object"),
                above(3, "mask decoder", "one query a frame", "becomes its mask"),
                above(4, "masks", "each object's own"),
                below(
                    1, "memory", "shared keys, an object's", "values; last N clips", kind="truth"
                ),
                below(3, "mask encoder", "the clip's last frame", "and its masks"),
            ),
            (*WAY, up(1), arrow((605, 232), (380, 232)), down_from_masks()),
        ),
        "stm": (
            "STM: each object asks keys and values of its own",
            (
                above(0, "query encoder", "a frame's key, value", "and skips, once for all"),
                above(1, "read", "softmax over all places", "of all entries,", "each object"),
                above(2, "decoder", "two refinements with", "the frame's skips"),
                above(3, "aggregation", "objects compete", "for pixels (eq. 4)"),
                above(4, "masks", "aggregated"),
                below(1, "memory", "the first, every fifth", "and the last frame", kind="truth"),
                below(3, "memory encoder", "its own trunk: frame,", "this mask, the others"),
            ),
            (*WAY, up(1), arrow((605, 232), (380, 232)), down_from_masks()),
        ),
        "qmvos": (
            "QMVOS: a hidden state and a query of each object go from frame to frame",
            (
                above(0, "key encoder", "key and selection,", "once for all objects"),
                above(1, "read", "anisotropic similarity", "to keys that all share"),
                above(2, "decoder", "with the hidden state;", "light update"),
                above(3, "QCIM", "queries look at all", "objects; mask = query", "times pixels"),
                above(4, "masks", "aggregated"),
                below(1, "memory", "every fifth frame, with", "a deep update", kind="truth"),
                below(2, "hidden state", "what was seen of each", "object", kind="truth"),
                below(3, "queries", "SIM: the mean feature", "under each mask", kind="truth"),
            ),
            (
                *WAY,
                up(1),
                up(2, both=True),
                up(3),
                down_from_masks(),
                arrow((410, 232), (380, 232), both=True),
            ),
        ),
        "stma": (
            "STMA-style (ours): objects, references and the frame in joint blocks",
            (
                above(0, "trunk", "tokens of stride 16", "with their position"),
                above(1, "6 blocks", "the frame looks at", "references and objects"),
                above(2, "ID read", "which IDs lie where,", "from every reference"),
                above(3, "decoder", "a logit for each of 10", "slots and background"),
                above(4, "masks", "softmax of the slots"),
                below(1, "references", "3: keys and values of", "each block, IDs", kind="truth"),
                below(3, "the same blocks", "objects look at objects,", "references at them"),
            ),
            (
                *WAY,
                up(1),
                arrow((380, 210), (492, 210), (492, 114)),
                arrow((605, 245), (380, 245)),
                down_from_masks(),
            ),
        ),
    }
)


def draw(name: str) -> str:
    """Return the picture of a network as SVG."""
    title, boxes, arrows = PICTURES[name]
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="head" d="M0 0 8 4 0 8z"/></marker>'
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style><defs>{head}</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--paper)"/>',
        *arrows,
        *(box.draw() for box in boxes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder to write into")
    folder = parser.parse_args().to
    for name in PICTURES:
        (folder / f"model-{name}.svg").write_text(draw(name), encoding="utf-8")


if __name__ == "__main__":
    main()
