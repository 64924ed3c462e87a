"""The manifest of `tamvt batch`: one video a line, as CSV or JSON."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BadOption

MOST_LINES: Final = 1_000_000
LINE_CHARACTERS: Final = 20_000
# A name becomes a folder's: no separators, nothing hidden, nothing that a shell reads.
Name = Annotated[str, Field(pattern=r"^[\w][\w.@+ -]{0,199}$")]


class ManifestEntry(BaseModel):
    """What is to be tracked: paths count from the manifest's folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    video: Annotated[str, Field(min_length=1, max_length=4096)]
    mask: Annotated[str, Field(min_length=1, max_length=4096)]
    name: Name | None = None
    model: str | None = None
    clip_length: Annotated[int, Field(ge=1)] | None = None
    memory_size: Annotated[int, Field(ge=1)] | None = None
    short_side: Annotated[int, Field(ge=1)] | None = None
    reference_frame: Annotated[int, Field(ge=0)] = 0
    both_ways: bool = False
    lost: Literal["keep", "empty"] = "keep"

    @property
    def digest(self) -> str:
        """Tell this entry from one of other words."""
        later = {"short_side"} if self.short_side is None else set()  # older receipts stay valid
        return sha256(self.model_dump_json(exclude=later).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a manifest: its number, from 1 on, and its index among the videos, from 0 on."""

    number: int
    index: int
    entry: ManifestEntry | None
    problem: str = ""

    @property
    def name(self) -> str:
        """The folder of its results."""
        if self.entry is None:
            return f"{self.index:06}"
        stem = re.sub(r"[^\w.@+-]", "_", Path(self.entry.video).stem)[:100]
        return self.entry.name or f"{self.index:06}-{stem}"


def read_manifest(path: Path) -> list[Line]:
    """Return the lines of a manifest, those that are wrong too; empty ones are left out.

    Raises:
        BadOption: its suffix is neither `.csv` nor `.jsonl`, it holds no line or far too many, its
            first line names no columns, or two lines have one name.
        OSError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise BadOption(f"{path} is neither .csv nor .jsonl")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _read_csv(path, file) if suffix == ".csv" else _read_json_lines(file)
            lines = [
                _check(number, index, row) for index, (number, row) in enumerate(_bounded(rows))
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadOption(f"{path} is no text in UTF-8: {error}") from error
    if not lines:
        raise BadOption(f"{path} names no video")
    seen: dict[str, int] = {}
    for line in lines:
        if (other := seen.setdefault(line.name.casefold(), line.number)) != line.number:
            raise BadOption(f"{path}: lines {other} and {line.number} have one name: {line.name}")
    return lines


def _bounded(rows: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    for count, row in enumerate(rows):
        if count >= MOST_LINES:
            raise BadOption(f"a manifest has at most {MOST_LINES:,} lines; split it")
        yield row


def _read_csv(path: Path, file: Iterator[str]) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(file, strict=True)
    names = [(name or "").strip() for name in reader.fieldnames or ()]
    if missing := {"video", "mask"} - set(names):
        raise BadOption(f"{path}: its first line names no column {' and '.join(sorted(missing))}")
    reader.fieldnames = names
    for row in reader:
        values = {key: value.strip() for key, value in row.items() if key and value}
        if None in row:
            yield reader.line_num, "it has more fields than the first line"
        elif values:
            yield reader.line_num, {key: value for key, value in values.items() if value}


def _read_json_lines(file: Iterator[str]) -> Iterator[tuple[int, Any]]:
    for number, text in enumerate(file, start=1):
        if len(text) > LINE_CHARACTERS:
            yield number, f"it is longer than {LINE_CHARACTERS:,} characters"
        elif text.strip():
            try:
                yield number, json.loads(text)
            except (ValueError, RecursionError) as error:
                yield number, f"it is no JSON: {str(error)[:100]}"


def _check(number: int, index: int, row: Any) -> Line:
    """Return a line with its entry, or with what is wrong in it (a row that is a sentence)."""
    if isinstance(row, str):
        return Line(number, index, None, row)
    try:
        return Line(number, index, ManifestEntry.model_validate(row))
    except ValidationError as error:
        found = [
            f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}"
            for each in error.errors(include_input=False, include_url=False)[:3]
        ]
        return Line(number, index, None, "; ".join(found)[:300])
