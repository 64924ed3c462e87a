"""Do the exported graphs say what PyTorch says? Compared on real clips, one clip step at a time."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from model.core.frame_files import read_frame_file
from model.core.masks import aggregate
from model.core.palette import read_label_map, write_label_map
from model.data.photograph import make_moving_photograph
from model.data.video import Video, open_video, read_names
from model.evaluation.runtime import Runtime
from model.evaluation.tracker import LIMITS, OfflineTracker, read_model_frame

LARGEST_DIFFERENCE = 1  # of 255, in a soft mask
LEAST_AGREEMENT = 0.999  # share of pixels with equal labels, over all frames


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two implementations are apart over some clips."""

    clips: int
    largest_difference: int  # of 255, over all soft masks
    agreement: float  # share of pixels with equal labels
    confidence: float  # the largest difference of a confidence

    @property
    def holds(self) -> bool:
        """Return whether the graphs may be served."""
        close = self.largest_difference <= LARGEST_DIFFERENCE
        return self.clips > 0 and close and self.agreement >= LEAST_AGREEMENT

    def __str__(self) -> str:
        verdict = "equal to PyTorch" if self.holds else "NOT equal to PyTorch"
        return (
            f"{verdict} on {self.clips} clips: soft masks within {self.largest_difference} of 255, "
            f"labels equal in {100 * self.agreement:.3f} % of pixels, "
            f"confidence within {self.confidence:.1e}"
        )


@dataclass(frozen=True, slots=True)
class RealVideo:
    """The encoded frames of a video and the label map of the first, as PNG."""

    frames: tuple[bytes, ...]
    mask: bytes


def check_parity(
    ours: Runtime, theirs: Runtime, videos: Sequence[RealVideo], *, clips: int
) -> Parity:
    """Return both implementations over the same clips; each step starts from the same fp16 bank.

    The bank is `theirs` throughout, so a difference in one step does not add up in the next.
    """
    share = -(-clips // len(videos))
    steps = [step for video in videos for step in compare_clips(ours, theirs, video, clips=share)]
    differences, agreements, confidences = zip(*steps, strict=True)
    return Parity(len(steps), max(differences), float(np.mean(agreements)), max(confidences))


def compare_clips(
    ours: Runtime, theirs: Runtime, video: RealVideo, *, clips: int
) -> Iterator[tuple[int, float, float]]:
    """Yield how far soft masks, labels (a share of equal ones) and confidence differ, by clip."""
    labels = read_label_map(video.mask, LIMITS)
    tracker = OfflineTracker(theirs, video.frames[0], labels)
    length = theirs.spec.clip_length
    images = [read_model_frame(image, tracker.size) for image in video.frames[1:]]
    for first in range(0, min(clips * length, len(images)), length):
        frames = images[first : first + length]
        mine = ours.segment(tracker.inputs(frames))
        their = tracker.segment(frames)
        soft = np.stack([frame.soft for frame in their])
        sure = np.array([frame.raw for frame in their])
        apart = np.abs(mine["masks"][0].astype(int) - soft.astype(int)).max()
        equal = [
            aggregate(a, tracker.object_ids) == aggregate(b, tracker.object_ids)
            for a, b in zip(mine["masks"][0], soft, strict=True)
        ]
        off = np.abs(mine["confidence"][0] - sure).max()
        yield int(apart), float(np.mean(equal)), float(off)


def read_real_videos(data: Path | None = None) -> list[RealVideo]:
    """Read the start of four training videos in `TAMVT_DATA`, else make a photograph move."""
    root = (data or Path(os.environ.get("TAMVT_DATA", "data"))) / "video"
    if not (root / "train.txt").is_file():
        return [read_photograph()]
    names = read_names(root / "train.txt")[::6]
    return [read_beginning(open_video(root, name)) for name in names]


def read_beginning(video: Video, frames: int = 17) -> RealVideo:
    """Return the first frames of a video."""
    images = tuple(map(read_frame_file, video.frames[:frames]))
    return RealVideo(images, video.masks[0].read_bytes())


def read_photograph(frames: int = 17) -> RealVideo:
    """Return a moving photograph, for where no video is at hand."""
    images, masks = make_moving_photograph(frames)
    encoded = (cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image in images)
    return RealVideo(tuple(encoded), write_label_map(masks[0]))
