"""Draw docs/images/track.webp: `python -m scripts.draw_readme_picture`.

A cup and a shuttle circle an astronaut, before her and behind her. The shipped model tracks all
three with `tamvt track`, from the masks of the first frame; the picture shows what it gave. The
photographs are scikit-image's: the astronaut and the deep field by NASA (public domain), the cup by
Rachel Michetti (CC0).

Letters: H, W are a frame's height and width. Frames are uint8 RGB (H, W, 3), label maps uint8
(H, W) of object ids.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from model.core.palette import write_label_map
from service.media.images import encode_jpeg
from service.media.overlay import paint
from service.media.sample import CUP_CENTER, draw_silhouette

TARGET = Path(__file__).parents[1] / "docs" / "images" / "track.webp"
HEIGHT, WIDTH = 360, 640
FRAMES = 80
FRAME_MS = 60
FIRST_FRAME_MS = 1200  # long enough to see what was given
# Ids whose color in DAVIS's palette shows on the object: blue on orange, green on red.
CUP, SHUTTLE, ASTRONAUT = 2, 3, 4
NAMES = {ASTRONAUT: "astronaut", CUP: "cup", SHUTTLE: "shuttle"}

# Outlines in the photograph of the astronaut, x and y in pixels.
# fmt: off
ASTRONAUT_OUTLINE = (
    (201, 23), (185, 38), (163, 51), (156, 58), (154, 64), (154, 80), (160, 107), (170, 116),
    (174, 128), (182, 132), (183, 144), (177, 148), (153, 151), (140, 158), (131, 167), (121, 183),
    (124, 206), (110, 206), (90, 227), (76, 235), (62, 250), (44, 282), (39, 306), (34, 315),
    (26, 342), (26, 366), (19, 390), (20, 419), (24, 432), (23, 460), (30, 500), (41, 511),
    (497, 511), (499, 480), (493, 430), (487, 403), (478, 384), (455, 361), (419, 345), (393, 344),
    (365, 349), (360, 344), (360, 328), (357, 324), (356, 302), (352, 287), (347, 282), (340, 262),
    (315, 239), (289, 203), (259, 168), (257, 160), (264, 149), (266, 137), (275, 134), (290, 117),
    (296, 107), (300, 92), (296, 58), (288, 43), (276, 31), (251, 19), (227, 16), (212, 22),
)
SHUTTLE_OUTLINE = (
    (408, 0), (423, 0), (431, 8), (436, 25), (438, 46), (444, 41), (450, 50), (454, 67), (454, 212),
    (456, 222), (458, 261), (439, 262), (437, 236), (425, 236), (412, 250), (405, 261), (391, 261),
    (389, 248), (367, 270), (370, 258), (380, 232), (377, 226), (356, 222), (356, 211), (379, 184),
    (378, 115), (385, 107), (382, 92), (383, 54), (387, 40), (392, 50), (397, 48), (398, 25),
    (405, 6),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Figure:
    """An object cut out of a photograph: pixels (H, W, 3) and how much of each is it, 0..1."""

    object_id: int
    pixels: NDArray[np.uint8]
    cover: NDArray[np.float32]
    center: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a figure's center lies in the frame, in pixels, its scale and its turn in degrees."""

    x: float
    y: float
    scale: float
    turn: float


def cut_out(
    object_id: int, outline: Sequence[tuple[int, int]], *, center: tuple[float, float]
) -> Figure:
    """Return what is inside the outline in the photograph of the astronaut."""
    photograph = data.astronaut()  # type: ignore[no-untyped-call]
    cover = np.zeros(photograph.shape[:2], np.uint8)
    cv2.fillPoly(cover, [np.array(outline, np.int32)], color=255, lineType=cv2.LINE_AA)
    soft = cv2.GaussianBlur(cv2.erode(cover, np.ones((3, 3), np.uint8)), (0, 0), 0.8)
    return Figure(object_id, photograph, np.asarray(soft / np.float32(255), np.float32), center)


def cut_cup() -> Figure:
    """Return the cup of the built-in sample."""
    photograph = data.coffee()  # type: ignore[no-untyped-call]
    return Figure(CUP, photograph, draw_silhouette(*photograph.shape[:2]), center=CUP_CENTER)


def orbit(moment: float, *, scale: float, turn: float) -> Placement:
    """Return a pose on the way around the astronaut, behind her while `moment` is below 0.5.

    `scale` is that at her side, `turn` the largest angle in degrees.
    """
    angle = 2 * pi * moment
    nearness = -sin(angle)  # -1 farthest, 1 nearest
    return Placement(
        x=WIDTH * (0.5 + 0.37 * cos(angle)),
        y=HEIGHT * (0.36 + 0.13 * nearness),
        scale=scale * (1 + 0.15 * nearness),
        turn=-turn * nearness,
    )


def draw_frame(
    sky: NDArray[np.uint8], figures: Sequence[Figure], moment: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the frame at `moment` (0..1) and its true label map, painted from back to front."""
    astronaut, cup, shuttle = figures
    later = (moment + 0.5) % 1  # the shuttle is half a round ahead of the cup
    flying = [
        (moment, cup, orbit(moment, scale=0.37, turn=25)),
        (later, shuttle, orbit(later, scale=0.6, turn=60)),
    ]
    sway = sin(2 * pi * moment)
    body = Placement(WIDTH / 2 + 14 * sway, HEIGHT + 22, scale=0.68, turn=4 * sway)
    behind = [(figure, pose) for at, figure, pose in flying if at < 0.5]
    before = [(figure, pose) for at, figure, pose in flying if at >= 0.5]
    frame, labels = sky.astype(np.float32), np.zeros((HEIGHT, WIDTH), np.uint8)
    for figure, pose in [*behind, (astronaut, body), *before]:
        frame, labels = lay_over(frame, labels, figure, pose)
    return np.rint(frame).astype(np.uint8), labels


def lay_over(
    frame: NDArray[np.float32], labels: NDArray[np.uint8], figure: Figure, pose: Placement
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return frame and label map with the figure at its pose on top."""
    warp = cv2.getRotationMatrix2D(figure.center, pose.turn, pose.scale)
    warp[:, 2] += np.array([pose.x, pose.y]) - np.array(figure.center)
    size = (WIDTH, HEIGHT)
    pixels = cv2.warpAffine(
        figure.pixels, warp, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    cover = np.asarray(cv2.warpAffine(figure.cover, warp, size), np.float32)
    share = cover[:, :, None]  # (H, W) -> (H, W, 1)
    labels = np.where(cover >= 0.5, figure.object_id, labels).astype(np.uint8)
    return pixels * share + frame * (1 - share), labels


def draw_scene() -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Return all frames and their true label maps; the last leads back to the first."""
    field = data.hubble_deep_field()  # type: ignore[no-untyped-call]
    sky = cv2.convertScaleAbs(cv2.GaussianBlur(field[200:560, 180:820], (0, 0), 1.0), alpha=0.8)
    figures = (
        cut_out(ASTRONAUT, ASTRONAUT_OUTLINE, center=(256, 512)),
        cut_cup(),
        cut_out(SHUTTLE, SHUTTLE_OUTLINE, center=(415, 140)),
    )
    return [
        draw_frame(np.asarray(sky, np.uint8), figures, number / FRAMES) for number in range(FRAMES)
    ]


def track(frames: Sequence[NDArray[np.uint8]], first: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return the label map of each frame, as `tamvt track` gives it from the first one's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "frames").mkdir()
        for number, frame in enumerate(frames):
            (folder / "frames" / f"{number:05d}.jpg").write_bytes(encode_jpeg(frame))
        mask = folder / "first.png"
        mask.write_bytes(write_label_map(first))
        command = ["-m", "service", "track", str(folder / "frames"), "--mask", str(mask)]
        subprocess.run([sys.executable, *command, "-o", str(folder / "out")], check=True)
        masks = sorted((folder / "out" / "masks").glob("*.png"))
        return [np.asarray(Image.open(path), np.uint8) for path in masks]


def label_frame(painted: NDArray[np.uint8], number: int) -> Image.Image:
    """Return the painted frame with a line that says whose masks it shows."""
    picture = Image.fromarray(painted)
    text = "frame 0: masks given" if number == 0 else f"frame {number}: masks found"
    pen = ImageDraw.Draw(picture, "RGBA")
    font = ImageFont.load_default(size=15)
    pen.rounded_rectangle((12, 12, 30 + pen.textlength(text, font), 40), 8, fill=(0, 0, 0, 170))
    pen.text((21, 16), text, fill=(255, 255, 255), font=font)
    return picture


def overlaps(masks: Sequence[NDArray[np.uint8]], truth: Sequence[NDArray[np.uint8]]) -> str:
    """Return each object's mean J in percent over the frames after the first."""
    means = []
    for object_id, name in NAMES.items():
        scores = []
        for found, true in zip(masks[1:], truth[1:], strict=True):
            union = np.count_nonzero((found == object_id) | (true == object_id))
            both = np.count_nonzero((found == object_id) & (true == object_id))
            scores.append(both / union if union else 1.0)
        means.append(f"{name} {100 * float(np.mean(scores)):.1f}")
    return "J: " + ", ".join(means)


def main() -> None:
    """Write the picture and print how well the model followed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=TARGET, help="where to write it")
    given = parser.parse_args()
    frames, truth = zip(*draw_scene(), strict=True)
    masks = track(frames, truth[0])
    shown = [
        label_frame(paint(frame, labels), number)
        for number, (frame, labels) in enumerate(zip(frames, masks, strict=True))
    ]
    durations = [FIRST_FRAME_MS, *[FRAME_MS] * (FRAMES - 1)]
    shown[0].save(
        given.to,
        save_all=True,
        append_images=shown[1:],
        duration=durations,
        loop=0,
        quality=60,
        method=6,
    )
    print(f"{given.to.name}: {given.to.stat().st_size / 1e6:.2f} MB; {overlaps(masks, truth)}")


if __name__ == "__main__":
    main()
