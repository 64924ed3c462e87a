"""What a project's labeling configuration says: its video or image, and what is drawn on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tamvt_label_studio.errors import NoPrediction

# What Label Studio's editor takes where the tag does not tell.
USUAL_RATE: Final = 24.0


@dataclass(frozen=True)
class LabelConfig:
    """A parsed configuration."""

    root: Element

    @classmethod
    def parse(cls, text: str) -> LabelConfig:
        """Return the configuration; raise NoPrediction where it is no XML."""
        try:
            return cls(ElementTree.fromstring(text))
        except ElementTree.ParseError as error:
            raise NoPrediction(f"the labeling configuration is no XML: {error}") from error

    def video_address(self, task: Mapping[str, Any]) -> str | None:
        """Return the address of the task's video; None in a project without videos."""
        video = self.root.find(".//Video")
        return None if video is None else self._value(video, "value", task)

    def image_address(self, task: Mapping[str, Any]) -> str | None:
        """Return the address of the task's image; None in a project without images."""
        image = self.root.find(".//Image")
        return None if image is None else self._value(image, "value", task)

    def rate(self, task: Mapping[str, Any]) -> float:
        """Return the frames a second in which Label Studio counts the frames of the video."""
        video = self.root.find(".//Video")
        names = () if video is None else ("frameRate", "framerate")
        for name in names:
            if video is not None and video.get(name):
                try:
                    rate = float(self._value(video, name, task) or "")
                except ValueError:
                    break
                return rate if rate > 0 else USUAL_RATE
        return USUAL_RATE

    def brush(self, image: str) -> tuple[str, frozenset[str]]:
        """Return the name of the brush for an image tag, and its labels.

        Raises:
            NoPrediction: there is none.
        """
        for tag in self._controls("BrushLabels"):
            if tag.get("toName") == image:
                labels = frozenset(label.get("value", "") for label in tag.iter("Label"))
                return tag.get("name", ""), labels
        raise NoPrediction("masks need <BrushLabels> for the image in the labeling configuration")

    def _controls(self, kind: str) -> Iterator[Element]:
        return self.root.iter(kind)

    def _value(self, tag: Element, name: str, task: Mapping[str, Any]) -> str | None:
        text = tag.get(name, "")
        if not text.startswith("$"):
            return text or None
        value = task.get("data", {}).get(text.removeprefix("$"))
        return None if value is None else str(value)
