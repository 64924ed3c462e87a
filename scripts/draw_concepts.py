"""Draw docs/images/memory.svg, bank.svg and scores.svg: `python -m scripts.draw_concepts`.

Pictures for docs/concepts.md; they follow the reader's light or dark colors.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from scripts.draw_architecture import STYLE

FOLDER = Path(__file__).parents[1] / "docs" / "images"
MEMORY, BANK, SCORES = FOLDER / "memory.svg", FOLDER / "bank.svg", FOLDER / "scores.svg"
FRAME, GAP, LEFT = 52, 8, 40
REMEMBERED = {0: "pinned", 6: "age 2", 8: "age 1", 10: "age 0"}
CLIP = (11, 12)
MORE_STYLE = """
.pinned { fill: var(--truth); stroke: var(--edge); stroke-width: 2; }
.kept { fill: var(--box); stroke: var(--way); stroke-width: 2; }
.clip { fill: var(--way); stroke: var(--way); } .light { fill: var(--paper); }
.one { fill: var(--way); fill-opacity: 0.35; stroke: var(--way); }
.two { fill: var(--edge); fill-opacity: 0.35; stroke: var(--edge); }
.thick { fill: none; stroke-width: 5; } .way1 { stroke: var(--way); } .way2 { stroke: var(--edge); }
"""


def text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "middle") -> str:
    """Return a line of text."""
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def picture(width: int, height: int, title: str, parts: list[str]) -> str:
    """Return an SVG of these parts."""
    head = '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
    head += ' orient="auto-start-reverse"><path class="head" d="M0 0L8 4L0 8z"/></marker>'
    inner = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f"<style>{STYLE}{MORE_STYLE}</style><defs>{head}</defs>"
        f'<rect width="{width}" height="{height}" fill="var(--paper)"/>\n{inner}\n</svg>\n'
    )


def draw_memory() -> str:
    """Return the picture of a video's frames, its memory and the clip that looks into it."""
    parts = [text(LEFT, 34, "the video's frames", kind="name", anchor="start")]
    middle = {}
    for number in range(14):
        x = LEFT + number * (FRAME + GAP)
        middle[number] = x + FRAME / 2
        kind = "clip" if number in CLIP else "box"
        kind = "pinned" if number == 0 else "kept" if number in REMEMBERED else kind
        parts.append(f'<rect x="{x}" y="48" width="{FRAME}" height="38" rx="5" class="{kind}"/>')
        shade = "light" if number in CLIP else ""
        parts.append(text(middle[number], 73, str(number), kind=shade))
    middle_of_clip = sum(middle[number] for number in CLIP) / len(CLIP)
    parts.append(text(middle_of_clip, 112, "the clip (L = 2)", kind="note"))
    parts.append(text(LEFT, 176, "the memory (at most N entries)", kind="name", anchor="start"))
    for place, (number, age) in enumerate(REMEMBERED.items()):
        x = LEFT + place * 150
        kind = "pinned" if number == 0 else "kept"
        parts.append(f'<rect x="{x}" y="190" width="136" height="58" rx="5" class="{kind}"/>')
        parts.append(text(x + 68, 214, f"frame {number}, masks"))
        note = "yours: it stays" if number == 0 else age
        parts.append(text(x + 68, 236, note, kind="note"))
    target = LEFT + 4 * 150 + 10
    parts.append(f'<path class="way" d="M{LEFT + 3 * 150 + 142} 219H{target + 32}"/>')
    parts.append(f'<rect x="{target + 36}" y="190" width="150" height="58" rx="5" class="clip"/>')
    parts.append(text(target + 111, 214, "attention", kind="light"))
    parts.append(text(target + 111, 236, "whose is a pixel?", kind="light"))
    parts.append(f'<path class="way" d="M{middle_of_clip} 120V186"/>')
    parts.append(text(target + 111, 272, "masks of frames 11 and 12; one enters", kind="note"))
    return picture(900, 290, "A clip of frames looks into the memory", parts)


def draw_bank() -> str:
    """Return the picture of a memory in Redis and the bank that an engine makes of it."""
    parts = [
        text(LEFT, 34, "Redis: the memory", kind="name", anchor="start"),
        text(LEFT, 54, "pictures and masks, tens of kB each", kind="note", anchor="start"),
        text(500, 34, "the engine: the bank", kind="name", anchor="start"),
        text(500, 54, "tensors, a slot for each entry", kind="note", anchor="start"),
    ]
    for place, number in enumerate(REMEMBERED):
        y = 70 + place * 44
        kind = "pinned" if number == 0 else "kept"
        parts.append(f'<rect x="{LEFT}" y="{y}" width="200" height="36" rx="5" class="{kind}"/>')
        parts.append(text(LEFT + 100, y + 23, f"frame {number}, masks"))
        parts.append(f'<path class="way" d="M{LEFT + 206} {y + 18}H492"/>')
        parts.append(f'<rect x="500" y="{y}" width="150" height="36" rx="5" class="{kind}"/>')
        parts.append(text(575, y + 23, "keys, values"))
    parts.append('<rect x="310" y="92" width="120" height="118" rx="5" class="clip"/>')
    parts.append(text(370, 156, "memorize", kind="light"))
    parts.append('<path class="way" d="M656 150H712"/>')
    parts.append('<rect x="720" y="114" width="140" height="72" rx="5" class="clip"/>')
    parts.append(text(790, 144, "segment", kind="light"))
    parts.append(text(790, 166, "the next clip", kind="light"))
    note = (
        "a bank that is lost, or needed by another gateway, is made again: the masks are the same"
    )
    parts.append(text(LEFT, 276, note, kind="note", anchor="start"))
    return picture(900, 296, "The bank is made of the memory, and can be made again", parts)


def draw_scores() -> str:
    """Return the picture of J and F: overlap of two masks, and of their outlines."""
    parts = []
    for left, name in ((30, "J: the regions"), (470, "F: the outlines")):
        parts.append(text(left, 34, name, kind="name", anchor="start"))
    parts.append('<rect x="60" y="56" width="180" height="130" rx="36" class="one"/>')
    parts.append('<rect x="100" y="76" width="180" height="130" rx="36" class="two"/>')
    parts.append(text(330, 100, "true mask", kind="note", anchor="start"))
    parts.append(text(330, 120, "and what was found", kind="note", anchor="start"))
    parts.append(text(170, 236, "pixels in both / pixels in either"))
    parts.append('<rect x="500" y="56" width="180" height="130" rx="36" class="thick way1"/>')
    parts.append('<rect x="506" y="60" width="180" height="140" rx="36" class="thick way2"/>')
    parts.append(text(720, 100, "how much of each", kind="note", anchor="start"))
    parts.append(text(720, 120, "outline is near the other", kind="note", anchor="start"))
    parts.append(text(610, 236, "mean of precision and recall"))
    return picture(900, 260, "J compares regions, F compares outlines", parts)


def main() -> None:
    """Write the pictures."""
    MEMORY.write_text(draw_memory())
    BANK.write_text(draw_bank())
    SCORES.write_text(draw_scores())


if __name__ == "__main__":
    main()
