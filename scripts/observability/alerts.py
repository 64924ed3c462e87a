"""Print the table of docs/operations.md: each alert, when it comes, and what to do.

python -m scripts.observability.alerts
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

RULES: Final = Path(__file__).resolve().parents[2] / "deploy/observability/rules/tamvt.yml"


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule, those that record and those that alert."""
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def markdown_table() -> str:
    """Return the table, a row for each alert."""
    rows = []
    for rule in rules():
        if "alert" in rule:
            when = rule["expr"].replace("|", "\\|")
            lasting = f", for {rule['for']}" if "for" in rule else ""
            severity, advice = rule["labels"]["severity"], rule["annotations"]["runbook"]
            rows.append(f"| `{rule['alert']}` | {severity} | `{when}`{lasting} | {advice} |")
    return (
        "\n".join(["| alert | severity | when | what to do |", "|---|---|---|---|", *rows]) + "\n"
    )


if __name__ == "__main__":
    sys.stdout.write(markdown_table())
