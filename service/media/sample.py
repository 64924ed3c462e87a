"""The built-in sample: a cup of coffee that drifts and bends before the Hubble deep field.

Both photographs come with scikit-image (coffee: Rachel Michetti, CC0; deep field: NASA, public
domain); the outline of the cup is ours. The truth is the outline, moved and bent like the picture.

Demo and tests need a video with truth where no data are at hand, without a download and under a
clear license. The whole photograph would not do, since nothing in it moves against its ground. The
sample is easy: its scores say that the chain works, not how good the model is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi, radians, sin
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.palette import write_label_map
from service.errors import Misconfigured
from service.media.images import encode_jpeg

Rgb: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.uint8]

BUILT_IN = "coffee"
PREFERRED = "dog-agility"
FRAMES = 60
HEIGHT, WIDTH = 360, 640

# Cup, saucer and spoon in scikit-image's `coffee` (400 x 600), as x, y in pixels, clockwise.
# fmt: off
CUP = (
    (180, 71), (186, 60), (194, 51), (203, 43), (214, 36), (226, 30), (240, 24), (256, 20),
    (272, 18), (286, 17.5), (300, 18.5), (316, 21), (332, 26), (348, 33), (362, 42), (375, 52),
    (386, 62), (395, 72), (398, 70), (404, 67), (411, 66.5), (417, 69), (422, 74), (424, 79),
    (422, 86), (419, 96), (417.5, 104), (424, 110), (434, 120), (444, 133), (453, 147),
    (461, 161), (468, 176), (473, 190), (477, 205), (479, 218), (479, 232), (478, 245),
    (475, 260), (470, 276), (463, 290), (457.5, 299.5), (450.5, 310.5), (441, 323.5),
    (429, 335.5), (416, 346.5), (404, 354.5), (390.5, 362.5), (375, 370.5), (360, 376.5),
    (345, 381.5), (330, 386), (312, 389.5), (295, 391), (278, 391), (260, 389.5), (242, 387),
    (222, 382.5), (202, 376), (183, 368), (166, 358.5), (150, 348), (135, 336), (120, 321),
    (108, 305), (97.5, 287.5), (87.5, 267.5), (80.5, 247), (77, 222), (76.5, 207), (77.5, 195),
    (79.5, 182), (83.5, 168), (90, 153), (99, 138), (107, 126), (116, 114), (127, 103.5),
    (138, 94), (149, 85), (160, 78), (171, 72.5),
)
# fmt: on
CUP_CENTER = (278.0, 210.0)
# The cup is red, as object 1 is in the palette of DAVIS: object 6 is teal and shows on it.
CUP_ID = 6


@dataclass(frozen=True, slots=True)
class SampleVideo:
    """A video on disk in the layout of DAVIS: images, the first mask, and the truth if known.

    `truth` is a folder with one label map per image, under the image's own stem.
    """

    name: str
    video: Path
    mask: Path
    truth: Path | None


@dataclass(frozen=True, slots=True)
class Pose:
    """The cup at one moment: center in the frame, scale, turn and phase of its bending."""

    center: tuple[float, float]
    scale: float
    turn_degrees: float
    phase: float

    @classmethod
    def at(cls, moment: float) -> Pose:
        """Return the cup's pose; `moment` runs from 0 to 1."""
        angle = 2 * pi * moment
        return cls(
            center=(WIDTH * (0.5 - 0.24 * cos(angle)), HEIGHT * (0.52 + 0.12 * sin(2 * angle))),
            scale=0.52 + 0.14 * sin(angle),
            turn_degrees=28 * sin(angle) + 8 * sin(3 * angle),
            phase=angle,
        )

    def map_pixels(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return x and y in the photograph for each pixel of the frame, two (H, W)."""
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        right, down = (columns - self.center[0]) / self.scale, (rows - self.center[1]) / self.scale
        turn = radians(self.turn_degrees)
        x = CUP_CENTER[0] + cos(turn) * right + sin(turn) * down
        y = CUP_CENTER[1] - sin(turn) * right + cos(turn) * down
        bent_x = x + 10 * np.sin(y / 60 + 2 * self.phase)
        bent_y = y + 8 * np.sin(x / 75 - 3 * self.phase)
        return bent_x.astype(np.float32), bent_y.astype(np.float32)


def find_sample_video(data: Path, *, name: str | None) -> SampleVideo | None:
    """Return the video `name` below `data`, or the preferred one if `name` is None.

    Return None where the built-in sample is to be used.

    Raises:
        Misconfigured: there is no video of this name.
    """
    if name == BUILT_IN:
        return None
    folder = data / "video" / (name or PREFERRED)
    if (folder / "frames").is_dir() and (folder / "masks").is_dir():
        return _sample_video_of(folder)
    if name is not None:
        raise Misconfigured(f"there is no video {name!r} in {data / 'video'} (TAMVT_DATA)")
    return None


def _sample_video_of(folder: Path) -> SampleVideo:
    masks = folder / "masks"
    return SampleVideo(
        name=folder.name, video=folder / "frames", mask=masks / "00000.png", truth=masks
    )


def write_sample(folder: Path) -> SampleVideo:
    """Write the built-in sample as `folder/frames/*.jpg` and `folder/masks/*.png`."""
    frames, masks = folder / "frames", folder / "masks"
    for part in (frames, masks):
        part.mkdir(parents=True, exist_ok=True)
    for number, (picture, labels) in enumerate(draw_sample()):
        (frames / f"{number:05d}.jpg").write_bytes(encode_jpeg(picture))
        (masks / f"{number:05d}.png").write_bytes(write_label_map(labels))
    return _sample_video_of(folder)


def draw_sample() -> Iterator[tuple[Rgb, Labels]]:
    """Yield 60 frames (360, 640, 3) and their label maps (360, 640) with the cup as object 6.

    Raises:
        Misconfigured: scikit-image, which carries the photographs, is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise Misconfigured(
            "the built-in sample needs scikit-image: pip install 'tamvt-serve[demo]'"
        ) from error
    coffee: Rgb = data.coffee()  # type: ignore[no-untyped-call]
    deep_field: Rgb = data.hubble_deep_field()  # type: ignore[no-untyped-call]
    silhouette = draw_silhouette(coffee.shape[0], coffee.shape[1])
    for number in range(FRAMES):
        moment = number / FRAMES
        # The camera moves slowly to the side, and closer.
        zoom, left, top = 1.0 + 0.15 * moment, 120 * moment, 60 + 80 * moment
        window = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]], np.float32)
        moved = cv2.warpAffine(deep_field, window, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        x, y = Pose.at(moment).map_pixels()
        cup = cv2.remap(coffee, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cover = cv2.remap(silhouette, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        share = cover[:, :, None]  # (H, W) -> (H, W, 1)
        mixed = cup * share + np.asarray(moved, np.uint8) * (1 - share)
        labels = np.where(cover >= 0.5, CUP_ID, 0).astype(np.uint8)
        yield np.rint(mixed).astype(np.uint8), labels


def draw_silhouette(height: int, width: int) -> NDArray[np.float32]:
    """Return how much of each pixel of the photograph (H, W) is the cup, 0..1."""
    fine = 8
    # Pixel centers are at whole numbers, so the finer grid starts half a pixel earlier.
    points = np.round((np.array(CUP) + 0.5) * fine - 0.5).astype(np.int32)
    canvas = np.zeros((height * fine, width * fine), np.uint8)
    cv2.fillPoly(canvas, [points], color=255)
    shrunk = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk / np.float32(255), dtype=np.float32)
