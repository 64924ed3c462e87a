"""Cut-outs: `STEM.png` for each frame, its objects in their own colors on nothing (RGBA)."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from service.errors import BadOption
from service.media.formats.annotated import AnnotatedVideo, File


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield a picture for every frame; raise BadOption where there are no pictures at hand."""
    for frame in video.frames:
        if frame.picture is None:
            raise BadOption("cut-outs need the video's pictures, which are not here")
        seen = frame.labels() > 0
        bgr = cv2.cvtColor(frame.picture(), cv2.COLOR_RGB2BGR) * seen[..., None]
        bgra = np.dstack([bgr, np.where(seen, np.uint8(255), np.uint8(0))])
        yield f"{frame.stem}.png", cv2.imencode(".png", bgra)[1].tobytes()
