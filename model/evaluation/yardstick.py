"""What a model scores on the yardstick's clips, and whether one model is better than another.

A clip's J is the mean over its objects and the frames after the first. Models are compared clip by
clip: the paired bootstrap draws clips with replacement, so that a gain is only claimed where it
holds for most draws (Efron and Tibshirani 1993, chapter 16).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from model.core.j_and_f import jaccard
from model.data.yardstick import HardClip
from model.evaluation.pixel_errors import THIRDS, count_errors, share_errors
from model.evaluation.runtime import Runtime
from model.evaluation.tracker import OfflineTracker

DRAWS = 10_000
LONG_ENDS = 100  # frames at either end of a long clip

Scores = Mapping[str, Sequence["ClipScore"]]  # of each set, in the order of its clips


@dataclass(frozen=True, slots=True)
class ClipScore:
    """J of a clip, and in thirds of its frames the pixels missed and wrong, as shares of the union.

    `first` and `last` are J in the first and the last 100 frames (of short clips: halves).
    """

    clip: str
    j: float
    missed: tuple[float, ...]
    wrong: tuple[float, ...]
    first: float
    last: float


def score_clip(
    runtime: Runtime,
    clip: HardClip,
    *,
    clip_length: int | None = None,
    memory_size: int | None = None,
    memory_gate: bool | None = None,
    tracker: type[OfflineTracker] = OfflineTracker,
) -> ClipScore:
    """Track a clip from its first labels, and score what comes."""
    following = tracker(
        runtime,
        clip.images[0],
        clip.labels[0],
        clip_length=clip_length,
        memory_size=memory_size,
        memory_gate=memory_gate,
    )
    ids = np.array(following.object_ids, np.uint8)
    overlaps, counts = [], []
    for frame, truth in zip(following.track(clip.images[1:]), clip.labels[1:], strict=True):
        pairs = [(frame.labels == object_id, truth == object_id) for object_id in ids]
        overlaps.append(float(np.mean([jaccard(*pair) for pair in pairs])))
        counts.append(np.sum([count_errors(*pair) for pair in pairs], axis=0))
    errors = share_errors(counts)
    ends = min(LONG_ENDS, max(1, len(overlaps) // 2))
    return ClipScore(
        clip.name,
        float(np.mean(overlaps)),
        errors.missed,
        errors.wrong,
        float(np.mean(overlaps[:ends])),
        float(np.mean(overlaps[-ends:])),
    )


def paired_interval(
    one: Sequence[float], other: Sequence[float], *, share: float = 0.95
) -> tuple[float, float, float]:
    """Return the mean of `other` - `one` over the same clips, and the ends of its interval."""
    apart = np.asarray(other) - np.asarray(one)
    drawn = np.random.default_rng(0).integers(0, len(apart), size=(DRAWS, len(apart)))
    low, high = np.quantile(apart[drawn].mean(axis=1), [(1 - share) / 2, (1 + share) / 2])
    return float(apart.mean()), float(low), float(high)


def write_scores(path: Path, scores: Scores, *, about: Mapping[str, str]) -> None:
    """Write the scores of every clip, with what they are of, as JSON."""
    sets = {name: [asdict(each) for each in found] for name, found in scores.items()}
    path.write_text(json.dumps({"about": dict(about), "sets": sets}, indent=1) + "\n")


def read_scores(path: Path) -> dict[str, list[ClipScore]]:
    """Read what `write_scores` wrote."""
    sets = json.loads(path.read_text())["sets"]
    return {
        name: [
            ClipScore(**{**each, "missed": tuple(each["missed"]), "wrong": tuple(each["wrong"])})
            for each in found
        ]
        for name, found in sets.items()
    }


def yardstick_table(scores: Scores, baseline: Scores | None) -> str:
    """Return the scores in percent as a Markdown table, beside those of the baseline."""
    titles = ("set", "clips", "baseline J", "J", "gain (95 %)", "missed, in thirds")
    lines = [f"| {' | '.join(titles)} | wrong, in thirds | J first, last |"]
    lines.append("|---|---:|---:|---:|---|---|---|---|")
    for name, found in scores.items():
        by_name = {each.clip: each for each in (baseline or {}).get(name, ())}
        known = all(each.clip in by_name for each in found)  # else the baseline is of other clips
        lines.append(_row(name, found, [by_name[each.clip] for each in found] if known else []))
    return "\n".join(lines)


def _row(name: str, found: Sequence[ClipScore], before: Sequence[ClipScore]) -> str:
    gain, old = "", ""
    if before:
        old = _percent(each.j for each in before)
        mean, low, high = paired_interval([each.j for each in before], [each.j for each in found])
        gain = f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    missed = " ".join(_percent(each.missed[third] for each in found) for third in range(THIRDS))
    wrong = " ".join(_percent(each.wrong[third] for each in found) for third in range(THIRDS))
    ends = f"{_percent(each.first for each in found)}, {_percent(each.last for each in found)}"
    j = _percent(each.j for each in found)
    return f"| {name} | {len(found)} | {old} | {j} | {gain} | {missed} | {wrong} | {ends} |"


def _percent(values: Iterable[float]) -> str:
    return f"{100 * float(np.mean(list(values))):.1f}"
