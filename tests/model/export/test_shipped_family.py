"""The small builds that ship beside the model are what their card says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.core.contract import SHIPPED_WEIGHTS
from model.evaluation.runtime import GraphRuntime

CARD = (SHIPPED_WEIGHTS / "FAMILY.md").read_text(encoding="utf-8")
FAMILY = ("stm-mobile", "qmvos-mobile", "stma-mobile")


def read_row(name: str) -> list[str]:
    """Return the cells of a row of the card's first table."""
    (line,) = (line for line in CARD.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.mark.parametrize("name", FAMILY)
def test_the_card_tells_what_the_graphs_tell(name: str) -> None:
    spec = GraphRuntime(SHIPPED_WEIGHTS, name, threads=1).spec
    column = FAMILY.index(name)
    assert spec.license == "research use, see the model card"
    assert read_row("weights")[column] == f"`{spec.weights_sha256[:12]}`"
    assert read_row("experimental")[column] == ("yes" if spec.experimental else "no")
    assert spec.measured is not None
    assert spec.measured.dev_j is not None
    assert f"({spec.measured.dev_j:.1f}, " in read_row("J&F on `dev` (J, F)")[column]
    size = sum(path.stat().st_size for path in Path(SHIPPED_WEIGHTS).glob(f"{name}*"))
    assert read_row("file (fp16)")[column] == f"{size / 1e6:.1f} MB"
