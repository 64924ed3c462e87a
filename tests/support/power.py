"""A loss of power: what Redis wrote and did not sync is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("synced_files.c")


@dataclass(frozen=True)
class Power:
    """What keeps the files under `kept` as they were last synced; `notes` is outside of it."""

    kept: Path
    notes: Path
    library: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what a Redis that is to lose its power is started with."""
        return {
            "LD_PRELOAD": str(self.library),
            "SYNCED_OF": str(self.kept.resolve()),
            "SYNCED_IN": str(self.notes),
        }

    def unsynced(self) -> Mapping[Path, int]:
        """Return the files that have more bytes than were synced, and how many were."""
        notes = {path: self.notes / path.name for path in self.kept.rglob("appendonlydir/*")}
        synced = {
            path: int(note.read_text() if note.exists() else 0) for path, note in notes.items()
        }
        return {path: size for path, size in synced.items() if path.stat().st_size > size}

    def lose(self) -> bool:
        """Cut off what was not synced, and return whether there was any; Redis must have ended."""
        unsynced = self.unsynced()
        for path, size in unsynced.items():
            os.truncate(path, size)
        return bool(unsynced)


def power_of(kept: Path, folder: Path) -> Power:
    """Compile what watches the files under `kept`; notes and library go into `folder`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "a loss of power is tried with a C compiler: apt-get install gcc"
    library, notes = folder / "synced_files.so", folder / "notes"
    notes.mkdir(parents=True)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True
    )
    return Power(kept, notes, library)
