"""What an engine tells of itself for the metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineVitals:
    """What an engine does now, and has done since it was opened."""

    waiting: int  # clips and rebuilds
    running: int
    bank_bytes: int
    bank_hits: int
    bank_rebuilds: int
