"""Read what is written for DAVIS, MOTS and YouTube-VIS by TrackEval.

Usage: `python -m scripts.try_formats`.

TrackEval has the readers and scores of these data sets. It is installed into a folder of its own
(pip, over the network); masks that are written here are its truth and its tracker's at once, so
every score is perfect unless it reads something else than was written.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.core.encoding import decode_rle
from service.media.formats.annotated import AnnotatedFrame, AnnotatedObject, AnnotatedVideo
from service.media.formats.registry import FORMATS, FormatName
from tests.support import scene

PACKAGE: Final = "trackeval==1.3.0"
FRAMES: Final = 8
QUIET: Final = {"PRINT_CONFIG": False}


def made_up_video() -> AnnotatedVideo:
    """Return two squares that walk."""
    frames = []
    for number in range(FRAMES):
        labels = scene.labels(number, objects=2)
        objects = tuple(AnnotatedObject(each, labels == each) for each in (1, 2))
        picture = partial(scene.picture, number, objects=2)
        image, size = f"{number:05d}.jpg", (labels.shape[0], labels.shape[1])
        frames.append(AnnotatedFrame(number, image, size, objects, number / 24, picture))
    return AnnotatedVideo("walk", {1: "one", 2: "two"}, frames, FRAMES, fps=24.0)


def write(name: FormatName, folder: Path) -> None:
    """Write the video in a format."""
    for path, content in FORMATS[name].files(made_up_video()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def davis(folder: Path) -> dict[str, Any]:
    """Return the facts of a data set of palette PNGs."""
    for part in ("truth", "trackers/ours/data"):
        write("davis", folder / part)
    return {
        "GT_FOLDER": f"{folder}/truth/",
        "TRACKERS_FOLDER": f"{folder}/trackers/",
        "SEQ_INFO": {"walk": FRAMES},
    }


def mots(folder: Path) -> dict[str, Any]:
    """Return the facts of a data set of run lengths in lines; KITTI's counts frames from 0."""
    for part in ("truth", "trackers/ours/data"):
        write("mots", folder / part)
    (folder / "truth" / "instances_txt").rename(folder / "truth" / "label_02")
    data = folder / "trackers" / "ours" / "data"
    (data / "instances_txt" / "walk.txt").rename(data / "walk.txt")
    facts = {"GT_FOLDER": f"{folder}/truth", "TRACKERS_FOLDER": f"{folder}/trackers"}
    return {**facts, "CLASSES_TO_EVAL": ["car"], "SEQ_INFO": {"walk": FRAMES}}


def list_runs(rle: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return run lengths as a list of numbers, as TrackEval wants them of a truth alone."""
    if rle is None:
        return None
    pixels = np.concatenate([[0], decode_rle(rle).ravel(order="F"), [0]])
    edges = np.concatenate([[0], np.flatnonzero(np.diff(pixels)), [pixels.size - 2]])
    return {**rle, "counts": np.diff(edges).tolist()}


def youtube_vis(folder: Path) -> dict[str, Any]:
    """Return the facts of a data set in one JSON; a tracker's are its annotations with scores."""
    truth = folder / "youtube_vis_val"
    write("coco-video", truth)
    (file,) = truth.glob("*.json")
    document = json.loads(file.read_text())
    results = folder / "trackers" / "youtube_vis_val" / "ours" / "data"
    results.mkdir(parents=True)
    found = [{**each, "score": 0.9} for each in document["annotations"]]
    (results / "results.json").write_text(json.dumps(found))
    for each in document["annotations"]:
        each["segmentations"] = [list_runs(rle) for rle in each["segmentations"]]
    file.write_text(json.dumps(document))
    facts = {"GT_FOLDER": f"{folder}/", "TRACKERS_FOLDER": f"{folder}/trackers/"}
    return {**facts, "SPLIT_TO_EVAL": "val"}


def main() -> None:
    """Raise where a score is not perfect."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = folder / "package"
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
        subprocess.run([*install, str(package), PACKAGE], check=True)
        sys.path.insert(0, str(package))
        trackeval: Any = import_module("trackeval")
        datasets, metrics = trackeval.datasets, trackeval.metrics
        for kind, facts, metric, field in (
            (datasets.DAVIS, davis, metrics.JAndF(QUIET), "J&F"),
            (datasets.KittiMOTS, mots, metrics.HOTA(QUIET), "HOTA"),
            (datasets.YouTubeVIS, youtube_vis, metrics.HOTA(QUIET), "HOTA"),
        ):
            (folder / facts.__name__).mkdir()
            dataset = kind({**QUIET, **facts(folder / facts.__name__)})
            options = {
                **QUIET,
                "PRINT_RESULTS": False,
                "OUTPUT_SUMMARY": False,
                "BREAK_ON_ERROR": True,
            }
            evaluator = trackeval.Evaluator(
                {**options, "OUTPUT_DETAILED": False, "PLOT_CURVES": False}
            )
            found, _ = evaluator.evaluate([dataset], [metric])
            scores = next(iter(found.values()))["ours"]["COMBINED_SEQ"]
            for one in scores.values():
                score = float(np.mean(one[metric.get_name()][field]))
                if score < 0.999:
                    raise SystemExit(f"{dataset.get_name()}: {field} {score}")
                print(f"{dataset.get_name()}: {field} {score:.3f}")


if __name__ == "__main__":
    main()
