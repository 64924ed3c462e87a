"""Which scene a seed gives: what its bodies are made of, how they move, and before what."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from model.data.rendered.meshes import (
    Mesh,
    draw_blob,
    draw_lump,
    draw_ring,
    draw_superquadric,
    draw_turned,
    extrude,
    make_sheet,
)
from model.data.rendered.scene import (
    Body,
    Curve,
    Piece,
    RenderedScene,
    Sun,
    Vector,
    rest,
    rotate,
    translate,
)
from model.data.rendered.textures import crop_texture, draw_noise, draw_texture
from model.data.static import MIN_INSTANCE, Pixels, StillPaths, pick_instance, read_still

MOST_BODIES, FEWEST_BODIES = 8, 3
_TWINS, _LIMBS, _BENT = 0.35, 0.4, 0.35
_CUTOUT, _PHOTOGRAPH = 0.35, 0.45  # of bodies and of textures, where there are stills
_CORNERS = 60  # of a cut-out's outline
_UP = np.array([0.0, 1.0, 0.0])
_SOLIDS: tuple[Callable[[np.random.Generator], Mesh], ...] = (
    draw_superquadric,
    draw_superquadric,
    draw_ring,
    draw_turned,
    draw_lump,
    draw_lump,
)


@dataclass(frozen=True, slots=True)
class SceneSampler:
    """Draws scenes; with the pictures of `stills`, or with noise alone where there are none."""

    stills: Sequence[StillPaths] = ()

    def draw_scene(self, rng: np.random.Generator) -> RenderedScene:
        """Return a scene of 3 to 8 labeled bodies, and up to 3 that only hide them."""
        count = int(rng.integers(FEWEST_BODIES, MOST_BODIES + 1))
        hiding = int(rng.choice([0, 1, 2, 3], p=[0.35, 0.35, 0.2, 0.1]))
        depths = rng.permutation(np.linspace(-1.9, 1.3, count + hiding))
        speed = 0.8 * float(np.exp(rng.normal(0.0, 0.5)))
        largest = 1.5 - 0.07 * count
        bodies = [
            self._draw_body(
                rng,
                label=place + 1 if place < count else 0,
                depth=depth,
                speed=speed,
                size=float(np.exp(rng.uniform(np.log(0.28), np.log(largest)))),
            )
            for place, depth in enumerate(depths)
        ]
        traits = []
        if rng.random() < _TWINS:
            twin = replace(bodies[1], pieces=bodies[0].pieces)
            bodies[1] = replace(twin, size=bodies[0].size * rng.uniform(0.8, 1.25))
            traits.append("twins")
        backdrop, kind = self._draw_backdrop(rng)
        eye, aim, roll = _draw_camera(rng)
        shutter = float(rng.uniform(0.25, 0.8)) if rng.random() < 0.6 else 0.0
        traits += [kind, *(["blurred"] if shutter else []), *(["hidden"] if hiding else [])]
        return RenderedScene(
            bodies=tuple(bodies),
            backdrop=backdrop,
            eye=eye,
            aim=aim,
            roll=roll,
            view=float(np.radians(rng.uniform(26.0, 34.0))),
            sun=_draw_sun(rng),
            shutter=shutter,
            traits=tuple(traits),
        )

    def _draw_body(
        self, rng: np.random.Generator, *, label: int, depth: float, speed: float, size: float
    ) -> Body:
        """Return a body that crosses the middle of the view at some time of the clip."""
        piece, flat = self._draw_trunk(rng)
        pieces = (piece,) if flat or rng.random() > _LIMBS else (piece, *self._draw_limbs(rng))
        heading = rng.normal(0.0, 1.0, size=3) * [1.0, 0.45, 0.35]
        velocity = heading / np.linalg.norm(heading) * speed * np.exp(rng.normal(0.0, 0.6))
        if label == 0:  # what hides others is often a post that stands there
            velocity = velocity * rng.choice([0.0, 1.0])
        meeting = np.array([rng.normal(0.0, 0.75), rng.normal(0.0, 0.35), depth])
        swing = rng.normal(0.0, 0.16, size=3) * (rng.random(3) < 0.6)
        way = Curve(
            meeting - velocity * rng.uniform(0.1, 0.9),
            velocity,
            swing,
            rate=rng.uniform(3.0, 12.0),
            phase=rng.uniform(0.0, 2 * np.pi),
        )
        axis = rng.normal(0.0, 1.0, size=3) + rng.choice([0.0, 3.0]) * _UP
        return Body(label, pieces, way, axis / np.linalg.norm(axis), _draw_angle(rng, flat), size)

    def _draw_trunk(self, rng: np.random.Generator) -> tuple[Piece, bool]:
        """Return a body's main piece, and whether it is flat: a cut-out or another extrusion."""
        if self.stills and rng.random() < _CUTOUT:
            cut = cut_still(self.stills[int(rng.integers(len(self.stills)))], rng)
            if cut is not None:
                return cut, True
        surface = self._draw_texture(rng)
        gloss = float(rng.choice([0.0, 0.15, 0.5], p=[0.5, 0.3, 0.2]))
        glow = float(rng.uniform(0.35, 0.6))
        if rng.random() < 0.15:
            blob = draw_blob(rng)
            mesh = extrude(blob, 0.5 + blob / 2, depth=rng.uniform(0.1, 0.6))
            return Piece(mesh, surface, glow=glow, gloss=gloss), True
        bend = _draw_bend(rng) if rng.random() < _BENT else rest(0.0, 0.0, 0.0)
        mesh = _SOLIDS[int(rng.integers(len(_SOLIDS)))](rng)
        repeat = float(rng.choice([1.0, 2.0, 3.0]))
        return Piece(mesh, surface, bend=bend, repeat=repeat, glow=glow, gloss=gloss), False

    def _draw_limbs(self, rng: np.random.Generator) -> tuple[Piece, ...]:
        """Return one to four pieces that swing about where they are joined to the trunk."""
        surface, mesh = self._draw_texture(rng), draw_turned(rng)
        rate = float(rng.uniform(4.0, 14.0))
        limbs = []
        for _ in range(int(rng.integers(1, 5))):
            outward = rng.normal(0.0, 1.0, size=3)
            outward /= np.linalg.norm(outward)
            joint = 0.55 * outward
            across = np.cross(outward, [0.0, 1.0, 0.0])
            tilt = float(np.arccos(np.clip(outward[1], -1.0, 1.0)))
            lean = rotate(-across / max(1e-6, float(np.linalg.norm(across))), tilt)
            length = rng.uniform(0.35, 0.7)
            scale = np.diag([0.22, length, 0.22, 1.0])
            axis = rng.normal(0.0, 1.0, size=3)
            limbs.append(
                Piece(
                    mesh,
                    surface,
                    pose=translate(joint + outward * length) @ lean @ scale,
                    joint=joint,
                    axis=axis / np.linalg.norm(axis),
                    turn=Curve(
                        np.zeros(1),
                        np.zeros(1),
                        np.array([rng.uniform(0.2, 0.9)]),
                        rate=rate,
                        phase=rng.uniform(0.0, 2 * np.pi),
                    ),
                )
            )
        return tuple(limbs)

    def _draw_texture(self, rng: np.random.Generator) -> Pixels:
        if self.stills and rng.random() < _PHOTOGRAPH:
            still = read_still(self.stills[int(rng.integers(len(self.stills)))])
            return crop_texture(still.image, rng)
        return draw_texture(rng)

    def _draw_picture(self, rng: np.random.Generator) -> Pixels:
        """Return what a wall shows: a whole photograph, or noise."""
        if self.stills and rng.random() < 0.75:
            image = read_still(self.stills[int(rng.integers(len(self.stills)))]).image
            return np.asarray(cv2.resize(image, (512, 512), interpolation=cv2.INTER_AREA), np.uint8)
        return draw_texture(rng)

    def _draw_backdrop(self, rng: np.random.Generator) -> tuple[tuple[Piece, ...], str]:
        """Return what stands behind the bodies, and its name; it takes their shadows."""
        repeat = float(rng.choice([4.0, 5.5, 7.0, 14.0], p=[0.4, 0.3, 0.2, 0.1]))
        drift = rng.normal(0.0, 0.06, size=2) * (rng.random() < 0.3)
        middle = np.full(2, 0.5 - repeat / 2)  # the camera looks at the middle of one picture
        wall = Piece(
            make_sheet(60.0, 34.0, bumps=_draw_hills(rng, 0.8) if rng.random() < 0.4 else None),
            self._draw_picture(rng),
            pose=translate(np.array([0.0, 0.0, -4.0])) @ rotate(_UP, rng.normal(0.0, 0.15)),
            repeat=repeat,
            scroll=Curve(middle, drift, np.zeros(2)),
            glow=float(rng.uniform(0.5, 0.8)),
        )
        if rng.random() < 0.4:
            return (wall,), "wall"
        floor = Piece(
            make_sheet(26.0, 20.0, bumps=_draw_hills(rng, 0.5) if rng.random() < 0.5 else None),
            self._draw_texture(rng),
            pose=translate(np.array([0.0, -rng.uniform(1.2, 1.6), 0.0]))
            @ rotate(np.array([1.0, 0.0, 0.0]), -np.pi / 2 + rng.normal(0.0, 0.04)),
            repeat=float(rng.uniform(3.0, 9.0)),
            glow=float(rng.uniform(0.4, 0.7)),
        )
        return (wall, floor), "floor"


def cut_still(paths: StillPaths, rng: np.random.Generator) -> Piece | None:
    """Return an object of a still, cut out and as thick as a board, or None where none fits."""
    still = read_still(paths)
    picked = pick_instance(still, rng, min_share=MIN_INSTANCE)
    if picked is None:
        return None
    smooth = cv2.GaussianBlur(picked.mask * np.float32(1.0), (0, 0), 1.5) > 0.55
    contours, _ = cv2.findContours(
        smooth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    if not contours:
        return None
    contour = max(contours, key=cv2.contourArea)
    tolerance = 0.8
    while len(corners := cv2.approxPolyDP(contour, tolerance, True)) > _CORNERS:
        tolerance *= 1.3
    pixels = corners[:, 0].astype(np.float64)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    if len(pixels) < 4 or (high - low).min() < 8:
        return None
    left, top = np.maximum(low.astype(int) - 2, 0)
    image = still.image[top : int(high[1]) + 3, left : int(high[0]) + 3]
    height, width = image.shape[:2]
    uv = (pixels - [left, top] + 0.5) / [width, height]
    polygon = (pixels - (low + high) / 2) * [1.0, -1.0] / ((high - low).max() / 2)
    return Piece(
        extrude(polygon, uv, depth=rng.uniform(0.08, 0.35)),
        np.ascontiguousarray(image),
        glow=float(rng.uniform(0.6, 0.8)),
    )


def _draw_angle(rng: np.random.Generator, flat: bool) -> Curve:
    """Return how a body turns; what is flat swings, lest it is seen from its edge for long."""
    spin = 0.0 if flat else float(rng.normal(0.0, rng.choice([0.5, 2.0, 5.0])))
    return Curve(
        np.array([rng.normal(0.0, 0.3) if flat else rng.uniform(0.0, 2 * np.pi)]),
        np.array([spin]),
        np.array([rng.uniform(0.1, 0.9)]),
        rate=rng.uniform(1.0, 8.0),
        phase=rng.uniform(0.0, 2 * np.pi),
    )


def _draw_bend(rng: np.random.Generator) -> Curve:
    """Return how a soft body twists and bends."""
    return Curve(
        rng.normal(0.0, 0.1, size=3),
        np.zeros(3),
        rng.normal(0.0, 1.0, size=3) * [0.8, 0.4, 0.4],
        rate=rng.uniform(3.0, 12.0),
        phase=rng.uniform(0.0, 2 * np.pi),
    )


def _draw_hills(rng: np.random.Generator, height: float) -> Vector:
    heights = draw_noise(rng, cells=int(rng.integers(2, 6)), octaves=3)[::4, ::4]
    return np.asarray(rng.uniform(0.2, 1.0) * height * (heights - 0.5), np.float64)


def _draw_camera(rng: np.random.Generator) -> tuple[Curve, Curve, Curve]:
    """Return where the camera stands, looks and how it leans; it rests in a fifth of the clips."""
    level = float(rng.choice([0.0, 0.4, 1.0, 2.0], p=[0.2, 0.3, 0.35, 0.15]))
    stand = np.array([rng.normal(0.0, 1.0), rng.uniform(-0.1, 1.4), 5.4])
    eye = Curve(
        stand,
        level * rng.normal(0.0, 1.0, size=3) * [1.0, 0.3, 0.6],
        level * rng.normal(0.0, 0.03, size=3),
        rate=rng.uniform(4.0, 20.0),
    )
    aim = Curve(
        rng.normal(0.0, 1.0, size=3) * [0.2, 0.12, 0.0],
        level * rng.normal(0.0, 1.0, size=3) * [0.4, 0.15, 0.0],
        level * rng.normal(0.0, 0.03, size=3),
        rate=rng.uniform(4.0, 20.0),
    )
    roll = Curve(
        rng.normal(0.0, 0.05, size=1),
        level * rng.normal(0.0, 0.06, size=1),
        level * rng.normal(0.0, 0.02, size=1),
        rate=rng.uniform(4.0, 14.0),
    )
    return eye, aim, roll


def _draw_sun(rng: np.random.Generator) -> Sun:
    """Return a sun above and before the bodies, so that shadows fall where the camera looks."""
    direction = np.array([rng.normal(0.0, 0.6), rng.uniform(0.5, 1.5), rng.uniform(0.4, 1.2)])
    warmth = rng.normal(0.0, 0.08)
    color = rng.uniform(0.4, 0.8) * np.array([1.0 + warmth, 1.0, 1.0 - warmth])
    return Sun(direction / np.linalg.norm(direction), color)
