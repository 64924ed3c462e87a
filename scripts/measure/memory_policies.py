"""What other policies of memory would bring the graphs as they are, without training.

    python -m scripts.measure.memory_policies [--graphs FOLDER] [--sets dev twins ...] [-o FILE]

Tracks `dev` and the yardstick's clips with each policy by the offline loop, and prints J with the
gain over the model as it is served, clip by clip (paired bootstrap). What FILE holds of the same
weights is not tracked again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from model.commands.machine import processor
from model.commands.options import choose_data_folder
from model.core.contract import SHIPPED_WEIGHTS
from model.core.memory import FIRST_IN_FIRST_OUT, Retention
from model.data.layouts import VideoSet
from model.data.yardstick import SETS, HardClip, make_clips, make_whole_clip, open_stock
from model.evaluation.results import today
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import OfflineFrame, OfflineTracker, begin_state
from model.evaluation.yardstick import paired_interval, score_clip

DEV = "dev"
MOST_SETS = (DEV, "twins", "returning", "dark", "tiny", "many", "cut", "held-out")
RIVAL = 0.15  # of an object's largest part, from which another part may be something else


@dataclass(frozen=True, slots=True)
class Policy:
    """How a memory is used; None and False are as the model says."""

    memory_size: int | None = None
    clip_length: int | None = None
    gate: bool | None = None
    retention: Retention = FIRST_IN_FIRST_OUT
    rivals: bool = False  # an entry that shows what an object was confused with stays


SERVED = "as served"
POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        SERVED: Policy(),
        "N = 3": Policy(memory_size=3),
        "N = 4": Policy(memory_size=4),
        "N = 7": Policy(memory_size=7),
        "L = 1": Policy(clip_length=1),
        "L = 1, N = 4": Policy(memory_size=4, clip_length=1),
        "first, last, one frame in 6": Policy(retention=Retention(6, 1)),
        "first, last two, one frame in 12": Policy(retention=Retention(12, 2)),
        "L = 1, first, last two, one frame in 6": Policy(clip_length=1, retention=Retention(6, 2)),
        "confident objects only": Policy(gate=True),
        "rivals stay": Policy(rivals=True),
        "L = 1, rivals stay": Policy(clip_length=1, rivals=True),
    }
)


class RivalTracker(OfflineTracker):
    """Keeps the last entry in which an object's mask had a second part, without that part.

    What looks like the object stays in the memory as what it is not, beside the reference and the
    newest (DAM4SAM, Videnovic et al. 2024, with parts of a mask in place of several hypotheses).
    """

    def segment(self, frames: Sequence[NDArray[np.uint8]]) -> list[OfflineFrame]:
        found = super().segment(frames)
        newest, alone = self.memory.newest, keep_largest_parts(found[-1].soft)
        if alone is not None and newest.frame == self._next - 1 and self.memory.capacity > 3:
            first, *others = self.memory.entries
            kept = tuple(replace(each, pinned=each is newest, given=()) for each in others)
            self.memory = replace(self.memory, entries=(first, *kept))
            blank = begin_state(self._runtime.spec, self.size, objects=len(alone))
            self._put(self._memorize(frames[-1], alone, blank)[0], self.memory.newest)
        return found


def keep_largest_parts(soft: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return soft masks (O, h, w) of the largest parts; None where no object has a rival."""
    alone, rival = soft.copy(), False
    for mask in alone:
        _, labels, stats, _ = cv2.connectedComponentsWithStats((mask >= 128).astype(np.uint8))
        areas = stats[1:, cv2.CC_STAT_AREA]
        if len(areas) > 1:
            rival |= bool(np.sort(areas)[-2] >= RIVAL * areas.max())
            mask[(labels != 1 + areas.argmax()) & (labels > 0)] = 0
    return alone if rival else None


def yield_clips(name: str) -> Iterator[HardClip]:
    """Yield the clips of a set of the yardstick, or the videos of `dev`."""
    if name != DEV:
        yield from make_clips(open_stock(), name)
        return
    for video in VideoSet("shared", choose_data_folder(None) / "video", DEV).open():
        yield make_whole_clip(DEV, video)


def track(runtime: GraphRuntime, clips: Sequence[HardClip], policy: Policy) -> list[float]:
    """Return J of each clip by a policy."""
    own = runtime.spec
    if policy.retention != FIRST_IN_FIRST_OUT:
        runtime.spec = replace(own, contract=2, retention=policy.retention)
    try:
        return [
            score_clip(
                runtime,
                clip,
                clip_length=policy.clip_length,
                memory_size=policy.memory_size,
                memory_gate=policy.gate,
                tracker=RivalTracker if policy.rivals else OfflineTracker,
            ).j
            for clip in clips
        ]
    finally:
        runtime.spec = own


def table(scores: Mapping[str, Mapping[str, list[float]]], sets: Sequence[str]) -> str:
    """Return a row for each policy: the mean over sets, then J of each, with its gain."""
    lines = [f"| policy | mean | {' | '.join(sets)} |", "|---|---:|" + "---|" * len(sets)]
    for name, by_set in scores.items():
        cells = []
        for each in sets:
            cell = f"{100 * np.mean(by_set[each]):.1f}"
            if name != SERVED:
                gain, low, high = paired_interval(scores[SERVED][each], by_set[each])
                cell += f" ({100 * gain:+.1f}: {100 * low:+.1f} to {100 * high:+.1f})"
            cells.append(cell)
        mean = 100 * np.mean([np.mean(by_set[each]) for each in sets])
        lines.append(f"| {name} | {mean:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="policies of memory on dev and the yardstick")
    parser.add_argument("--graphs", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--model", default="tamvt-mobile")
    parser.add_argument("--sets", nargs="+", choices=(DEV, *SETS), default=list(MOST_SETS))
    parser.add_argument("--policies", nargs="+", choices=tuple(POLICIES), default=list(POLICIES))
    parser.add_argument("-o", "--output", type=Path, help="JSON of what is measured")
    args = parser.parse_args()
    runtime = GraphRuntime(args.graphs, args.model, threads=1)
    weights = runtime.spec.weights_sha256[:12]
    known: dict[str, dict[str, dict[str, list[float]]]] = {}
    if args.output is not None and args.output.is_file():
        known = json.loads(args.output.read_text())
    scores = known.setdefault(weights, {})
    wanted = list(dict.fromkeys((SERVED, *args.policies)))
    for name in args.sets:
        missing = [each for each in wanted if name not in scores.get(each, {})]
        clips = list(yield_clips(name)) if missing else []
        for policy in missing:
            scores.setdefault(policy, {})[name] = track(runtime, clips, POLICIES[policy])
            print(f"{name}, {policy}: {100 * np.mean(scores[policy][name]):.1f}", flush=True)
            if args.output is not None:
                args.output.write_text(json.dumps(known))
    print(table({each: scores[each] for each in wanted}, args.sets))
    print(f"\n{runtime.spec.name}, weights {weights}, {processor()}, {today()}")


if __name__ == "__main__":
    main()
