"""What a rendered clip shows: bodies on their ways, a camera, a backdrop; all values, no drawing.

Lengths are in units of which the view is some 2.7 high where the bodies meet; y is up, and the
camera looks from +z. Times are in seconds at 24 frames a second.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.data.rendered.meshes import Mesh
from model.data.static import Pixels

FRAMES_PER_S = 24
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]  # (4, 4), applied to columns


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A value (D,) over time: it goes steadily, and swings about its way."""

    start: Vector
    speed: Vector
    swing: Vector
    rate: float = 0.0  # radians a second
    phase: float = 0.0

    def at(self, time: float) -> Vector:
        """Return the value at a time in seconds."""
        return np.asarray(
            self.start + self.speed * time + self.swing * np.sin(self.rate * time + self.phase)
        )


def rest(*values: float) -> Curve:
    """Return a curve that stays where it is."""
    nothing = np.zeros(len(values))
    return Curve(np.array(values, np.float64), nothing, nothing)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A mesh with its texture, part of a body or of the backdrop.

    `pose` puts it into its body. It swings by the angle `turn` about an axis through `joint`.
    `bend` (3,) twists it about its own y and bends it towards x and z. The texture is repeated
    `repeat` times and drifts by `scroll` (2,). `glow` is how bright it is where no sun comes, 1
    being its own color; `gloss` is how much it shines.
    """

    mesh: Mesh
    texture: Pixels
    pose: Matrix = field(default_factory=lambda: np.eye(4))
    joint: Vector = field(default_factory=lambda: np.zeros(3))
    axis: Vector = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))
    turn: Curve = field(default_factory=lambda: rest(0.0))
    bend: Curve = field(default_factory=lambda: rest(0.0, 0.0, 0.0))
    repeat: float = 1.0
    scroll: Curve = field(default_factory=lambda: rest(0.0, 0.0))
    glow: float = 0.45
    gloss: float = 0.0

    def place(self, time: float) -> Matrix:
        """Return the matrix from the mesh to its body, or to the world for the backdrop."""
        about = translate(self.joint) @ rotate(self.axis, float(self.turn.at(time)[0]))
        return about @ translate(-self.joint) @ self.pose


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """Pieces that move as one object `label`; 0 is one that nobody labels, but that hides others.

    It turns about `axis`; `size` is its radius.
    """

    label: int
    pieces: tuple[Piece, ...]
    way: Curve
    axis: Vector
    angle: Curve
    size: float

    def place(self, time: float) -> Matrix:
        """Return the matrix from the body to the world."""
        turned = rotate(self.axis, float(self.angle.at(time)[0]))
        return translate(self.way.at(time)) @ turned @ np.diag([*[self.size] * 3, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class Sun:
    """Where it stands (a unit vector), and its color (3,), 1 being white."""

    direction: Vector
    color: Vector


@dataclass(frozen=True, slots=True, eq=False)
class RenderedScene:
    """Everything that a clip shows, and how it is filmed.

    The camera stands at `eye`, looks at `aim`, leans by `roll`; `view` is the angle of its height
    in radians. The shutter is open for a share of a frame's time. `traits` name what was drawn.
    """

    bodies: tuple[Body, ...]
    backdrop: tuple[Piece, ...]
    eye: Curve
    aim: Curve
    roll: Curve
    view: float
    sun: Sun
    sky: tuple[float, float, float] = (0.5, 0.6, 0.7)
    shutter: float = 0.0
    traits: tuple[str, ...] = ()

    def camera(self, time: float, *, aspect: float) -> Matrix:
        """Return the matrix from the world to what is seen, in clip coordinates of OpenGL."""
        leaned = rotate(np.array([0.0, 0.0, 1.0]), float(self.roll.at(time)[0]))
        seen = leaned @ look_at(self.eye.at(time), self.aim.at(time))
        return project(self.view, aspect, near=0.5, far=60.0) @ seen


def translate(shift: Vector) -> Matrix:
    """Return the matrix that moves by `shift` (3,)."""
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return matrix


def rotate(axis: Vector, angle: float) -> Matrix:
    """Return the matrix that turns by an angle in radians about a unit axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    return matrix


def look_at(eye: Vector, aim: Vector) -> Matrix:
    """Return the matrix from the world to a camera at `eye` that looks at `aim`, y up."""
    back = eye - aim
    back = back / np.linalg.norm(back)
    right = np.cross([0.0, 1.0, 0.0], back)
    right = right / np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = right, np.cross(back, right), back
    return matrix @ translate(-eye)


def project(angle: float, aspect: float, *, near: float, far: float) -> Matrix:
    """Return the perspective of OpenGL for an angle of view (its height, in radians)."""
    scale = 1.0 / np.tan(angle / 2)
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[1, 1] = scale / aspect, scale
    matrix[2, 2:] = (far + near) / (near - far), 2 * far * near / (near - far)
    matrix[3, 2] = -1.0
    return matrix


def project_along(direction: Vector, *, reach: float) -> Matrix:
    """Return what a sun sees of the world within `reach` of its middle, without perspective."""
    seen = look_at(direction * 2 * reach, np.zeros(3))
    matrix = np.diag([1.0 / reach, 1.0 / reach, -1.0 / (2 * reach), 1.0])
    matrix[2, 3] = -1.0
    return matrix @ seen
