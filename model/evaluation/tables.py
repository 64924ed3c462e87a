"""Scores as tables: CSV files for programs, Markdown for people."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from model.evaluation.pixel_errors import THIRDS, PixelErrors
from model.evaluation.scoring import ObjectScore

SHOWN = ("j", "j_recall", "j_decay", "f", "f_recall", "f_decay", "j_tr")
MEASURES = (*SHOWN, "j_and_f")
ERRORS = tuple(f"{kind}_{third}" for kind in PixelErrors._fields for third in range(1, THIRDS + 1))


def list_measures(score: ObjectScore) -> dict[str, float]:
    """Return all measures of one object, 0 to 1: `MEASURES`, and `missed_1` to `wrong_3`."""
    j, f = score.scores.j, score.scores.f
    quality = (j.mean, j.recall, j.decay, f.mean, f.recall, f.decay)
    whole = (score.scores.j_tr, score.scores.j_and_f)
    values = (*quality, *whole, *score.errors.missed, *score.errors.wrong)
    return dict(zip((*MEASURES, *ERRORS), values, strict=True))


def average_measures(scores: Iterable[ObjectScore]) -> dict[str, float]:
    """Return the plain mean over objects of each measure, as DAVIS 2017 and VOST take it."""
    each = [list_measures(score) for score in scores]
    return {name: float(np.mean([one[name] for one in each])) for name in (*MEASURES, *ERRORS)}


def group_by_video(scores: Sequence[ObjectScore]) -> dict[str, list[ObjectScore]]:
    """Return the objects of each video, in order."""
    return {
        name: [score for score in scores if score.video == name]
        for name in dict.fromkeys(score.video for score in scores)
    }


def group_by_subset(scores: Sequence[ObjectScore]) -> dict[str, list[ObjectScore]]:
    """Return the objects of each subset that any is in."""
    names = sorted({name for score in scores for name in score.subsets})
    return {name: [score for score in scores if name in score.subsets] for name in names}


def write_tables(folder: Path, scores: Sequence[ObjectScore]) -> None:
    """Write `objects.csv`, `videos.csv`, `subsets.csv` and `frames.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(
        folder / "objects.csv",
        (
            {
                "video": score.video,
                "object": score.object_id,
                "frames": len(score.frames),
                "area": f"{score.area:.6f}",
                "subsets": " ".join(score.subsets),
                **round_digits(list_measures(score)),
            }
            for score in scores
        ),
    )
    for kind, groups in (("video", group_by_video(scores)), ("subset", group_by_subset(scores))):
        rows = (
            {kind: name, "objects": len(group), **round_digits(average_measures(group))}
            for name, group in groups.items()
        )
        write_csv(folder / f"{kind}s.csv", rows)
    write_csv(
        folder / "frames.csv",
        (
            {
                "video": score.video,
                "object": score.object_id,
                "frame": frame,
                **round_digits(values),
            }
            for score in scores
            for frame, values in list_frame_measures(score)
        ),
    )


def list_frame_measures(score: ObjectScore) -> Iterable[tuple[str, dict[str, float]]]:
    """Return J and F of every frame that counts."""
    pairs = zip(score.frames, score.scores.j_frames, score.scores.f_frames, strict=True)
    return ((frame, {"j": j, "f": f}) for frame, j, f in pairs)


def round_digits(values: Mapping[str, float]) -> dict[str, str]:
    """Return six digits: enough to compute on, few enough to read."""
    return {name: f"{value:.6f}" for name, value in values.items()}


def write_csv(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV file with a header; an empty file without rows."""
    listed = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(listed[0]) if listed else [])
        if listed:
            writer.writeheader()
            writer.writerows(listed)


def write_markdown(scores: Sequence[ObjectScore], rates: Mapping[str, float]) -> str:
    """Return the scores by video, percent, with their mean over objects, and those of subsets.

    Missed and wrong pixels are shares of the union in the first, second and last third of the
    frames. `rates` are the frames a second of the loop, by video, decoding included.
    """
    heads = "J | recall | decay | F | recall | decay | J_tr | missed, in thirds | wrong, in thirds"
    lines = [f"| video | objects | {heads} | frames/s |", "|---|" + "---:|" * 11]
    for name, group in group_by_video(scores).items():
        speed = f"{rates[name]:.1f}" if name in rates else ""
        lines.append(f"| {name} | {len(group)} | {format_percents(group)} | {speed} |")
    lines.append(f"| **all** | {len(scores)} | {format_percents(scores)} | |")
    for name, group in group_by_subset(scores).items():
        lines.append(f"| *{name}* | {len(group)} | {format_percents(group)} | |")
    total = average_measures(scores)["j_and_f"]
    videos = len(group_by_video(scores))
    lines.append(f"\nJ&F {100 * total:.1f} on {len(scores)} objects of {videos} videos")
    return "\n".join(lines)


def format_percents(scores: Sequence[ObjectScore]) -> str:
    """Return the cells of one row."""
    mean = average_measures(scores)
    cells = [f"{100 * mean[name]:.1f}" for name in (*SHOWN, *ERRORS)]
    thirds = (cells[len(SHOWN) :][:THIRDS], cells[-THIRDS:])
    return " | ".join((*cells[: len(SHOWN)], *map(" ".join, thirds)))
