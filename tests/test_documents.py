"""The documents as somebody reads them: two clicks lead everywhere, and what is seen is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / "docs" / "README.md"
ROOMS = ("docs", "examples", "clients", "deploy", "loadtests", "model")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!\w+:)([^)#\s]+)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
# Pages on what somebody sees on a screen, or draws.
VISIBLE = (
    "README.md",
    "docs/architecture.md",
    "docs/browser.md",
    "docs/concepts.md",
    "docs/evaluation.md",
    "docs/how-to.md",
    "docs/models.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/quickstart.md",
    "docs/track.md",
    "docs/training.md",
    "examples/README.md",
)


def pages() -> Iterator[Path]:
    yield from ROOT.glob("*.md")
    for room in ROOMS:
        yield from (ROOT / room).rglob("*.md")


def pictures(page: Path) -> list[tuple[str, Path]]:
    """What a page shows: the words for those who do not see it, and the file."""
    return [(words, page.parent / target) for words, target in PICTURE.findall(page.read_text())]


def test_the_index_leads_to_every_page_in_two_clicks() -> None:
    reached = {INDEX}
    for _ in range(2):
        targets = [
            (page.parent / target).resolve()
            for page in reached
            if page.suffix == ".md"
            for target in LINK.findall(page.read_text())
        ]
        reached |= {target for target in targets if target.is_file()}
    assert {page.relative_to(ROOT).as_posix() for page in pages() if page not in reached} == set()
    programs = [*(ROOT / "examples").glob("*.py"), *(ROOT / "examples").glob("*/*.html")]
    assert [program.name for program in programs if program not in reached] == []


@pytest.mark.parametrize("name", VISIBLE)
def test_a_page_on_something_visible_shows_it(name: str) -> None:
    assert pictures(ROOT / name) != []


def test_every_picture_can_be_seen_and_is_told_in_words() -> None:
    for page in pages():
        for words, path in pictures(page):
            assert len(words.split()) >= 3, f"{page}: {path.name}"
            if path.suffix == ".svg":
                assert ElementTree.parse(path).getroot().tag.endswith("svg")
            else:
                with Image.open(path) as image:
                    image.verify()
