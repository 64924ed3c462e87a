"""What Label Studio asks for: boxes followed through a video, clicks and boxes to masks."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tamvt_client import Client, PointPrompt, RefinedOut
from tamvt_label_studio.brush import encode_brush
from tamvt_label_studio.config import LabelConfig
from tamvt_label_studio.errors import NoPrediction
from tamvt_label_studio.film import Film
from tamvt_label_studio.media import MediaStore
from tamvt_label_studio.regions import Region, in_pixels, read_regions
from tamvt_label_studio.tracking import VideoTracker


class Backend:
    """The calls of the protocol, as functions from JSON to JSON."""

    def __init__(self, client: Client, media: MediaStore, tracker: VideoTracker) -> None:
        self._client = client
        self._media = media
        self._tracker = tracker

    def setup(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take a project's address and key, and tell which model answers."""
        self._media.told(body.get("hostname"), body.get("access_token"))
        models = self._client.models()
        try:
            own = version("tamvt-label-studio")
        except PackageNotFoundError:  # run from a checkout
            own = "checkout"
        return {"model_version": f"{models[0].name}-{models[0].weights_sha256[:8]} ({own})"}

    def predict(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a prediction for each task: of what is drawn in it, nothing where nothing is."""
        config = LabelConfig.parse(body.get("label_config") or "<View/>")
        context = (body.get("params") or {}).get("context") or {}
        results = []
        for task in body.get("tasks", ()):
            drawn = context.get("result") or _latest(task)
            regions, score = self._predict(config, task, drawn) if drawn else ([], 0.0)
            results.append({"result": regions, "score": score, "model_version": "tamvt"})
        return {"results": results}

    def _predict(
        self, config: LabelConfig, task: dict[str, Any], drawn: list[Region]
    ) -> tuple[list[Region], float]:
        video = config.video_address(task)
        if video is not None:
            film = Film(self._media.path_of(video), config.rate(task))
            regions = self._tracker.track(f"{task.get('id')} {video}", film, read_regions(drawn))
            return regions, 1.0
        image = config.image_address(task)
        if image is None:
            raise NoPrediction("the project has neither a <Video> nor an <Image>")
        return self._point(config, self._media.path_of(image).read_bytes(), drawn)

    def _point(
        self, config: LabelConfig, image: bytes, drawn: list[Region]
    ) -> tuple[list[Region], float]:
        """Return a brush mask for each label that is pointed at, and the least of their scores."""
        found = []
        scores = []
        for label, prompts in _by_label(drawn).items():
            size = (int(prompts[0]["original_height"]), int(prompts[0]["original_width"]))
            mask = self._refine(image, prompts, size)
            to_name = prompts[0]["to_name"]
            brush, labels = config.brush(to_name)
            if labels and label not in labels:
                raise NoPrediction(f"<BrushLabels> has no label {label!r}: add it to the project")
            value = {
                "format": "rle",
                "rle": encode_brush(mask.mask()),
                "brushlabels": [label],
            }
            scores.append(mask.score)
            found.append(
                {
                    "id": f"tamvt-{prompts[0].get('id', label)}",
                    "type": "brushlabels",
                    "from_name": brush,
                    "to_name": to_name,
                    "original_width": size[1],
                    "original_height": size[0],
                    "image_rotation": 0,
                    "score": mask.score,
                    "value": value,
                }
            )
        if not found:
            raise NoPrediction("click on an object, or draw a box around it")
        return found, min(scores)

    def _refine(self, image: bytes, prompts: list[Region], size: tuple[int, int]) -> RefinedOut:
        points, box = [], None
        for each in prompts:
            value = each["value"]
            x, y, width, height = in_pixels(
                (value["x"], value["y"], value["width"], value.get("height", 0)), size
            )
            if each["type"].startswith("rectangle"):
                box = (x, y, width, height)
            else:
                points.append(
                    PointPrompt(x=x, y=y, label=1 if each.get("is_positive", True) else 0)
                )
        return self._client.refine(image, box, points=points)


def _latest(task: dict[str, Any]) -> list[Region]:
    """Return what is drawn in a task's newest draft, or else in its newest annotation."""
    for kind in ("drafts", "annotations"):
        items = task.get(kind) or ()
        if items and isinstance(items[-1], dict) and items[-1].get("result"):
            return list(items[-1]["result"])
    return []


def _by_label(drawn: Iterable[Region]) -> dict[str, list[Region]]:
    """Return clicks and boxes by their label."""
    found: dict[str, list[Region]] = {}
    for each in drawn:
        labels = each.get("value", {}).get(each.get("type", ""))
        if each.get("type") in ("keypointlabels", "rectanglelabels") and labels:
            found.setdefault(labels[0], []).append(each)
    return found
