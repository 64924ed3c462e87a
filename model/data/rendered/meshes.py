"""Meshes of rendered things: woven grids of points and extruded polygons, about a unit in radius.

R rows and C columns of a grid, V vertices, T triangles, N corners of a polygon.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
_ROWS, _COLUMNS = 33, 49


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A surface: `vertices` float32 (V, 8) and `triangles` int32 (T, 3) of their indices.

    A vertex is position x, y, z, normal x, y, z, and its place u, v in the texture.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]


def weave(points: Points) -> Mesh:
    """Return the surface over a grid (R, C, 3), its texture laid over it once.

    It faces those who see its rows run down and its columns to the right. Normals are smooth;
    where its first and last column meet, or a row is one point, they are shared.
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack([a, d, c], -1), np.stack([a, c, b], -1)]).reshape(-1, 3)
    corners = points.reshape(-1, 3)[triangles]  # (T, 3, 3)
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((rows * columns, 3))
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    normals = normals.reshape(points.shape)
    if np.allclose(points[:, 0], points[:, -1]):
        normals[:, 0] = normals[:, -1] = normals[:, 0] + normals[:, -1]
    for row in (0, -1):
        if np.allclose(points[row], points[row, :1]):
            normals[row] = normals[row].sum(axis=0)
    u, v = np.meshgrid(np.linspace(0.0, 1.0, columns), np.linspace(0.0, 1.0, rows))
    return _join(points, normals, np.stack([u, v], -1), triangles)


def _join(points: Points, normals: Points, uv: Points, triangles: NDArray[np.integer]) -> Mesh:
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    flat = (points, normals / np.maximum(lengths, 1e-12), uv)
    vertices = np.concatenate([each.reshape(-1, each.shape[-1]) for each in flat], axis=1)
    return Mesh(vertices.astype(np.float32), triangles.astype(np.int32))


def make_sheet(width: float, height: float, *, bumps: Points | None = None) -> Mesh:
    """Return an upright sheet in the plane z = 0, with `bumps` (R, C) towards +z."""
    heights = np.zeros((2, 2)) if bumps is None else bumps
    rows, columns = heights.shape
    x, y = np.meshgrid(np.linspace(-width / 2, width / 2, columns), np.linspace(1, -1, rows))
    return weave(np.stack([x, y * height / 2, heights], -1))


def draw_superquadric(rng: np.random.Generator) -> Mesh:
    """Return a ball, box, pillow, spindle or what lies between (Barr 1981), of any proportions."""
    power = rng.choice([0.15, 0.5, 1.0, 1.7], size=2)
    down, around = _angles()
    ring = _signed_power(np.sin(down), power[0])
    x = ring * _signed_power(np.cos(around), power[1])
    z = ring * _signed_power(np.sin(around), power[1])
    y = _signed_power(np.cos(down), power[0])
    return weave(np.stack([x, y, z], -1) * _draw_proportions(rng))


def draw_ring(rng: np.random.Generator) -> Mesh:
    """Return a ring, thin to thick, round or flat."""
    thick = rng.uniform(0.12, 0.45)
    tube, around = np.meshgrid(
        np.linspace(0.0, 2 * np.pi, _ROWS), np.linspace(0.0, 2 * np.pi, _COLUMNS), indexing="ij"
    )
    reach = 1.0 - thick + thick * np.cos(tube)
    points = [reach * np.cos(around), thick * np.sin(tube), reach * np.sin(around)]
    return weave(np.stack(points, -1) * _draw_proportions(rng))


def draw_turned(rng: np.random.Generator) -> Mesh:
    """Return what a lathe makes: cones, rods, bottles, tops, closed at both ends."""
    knots = rng.uniform(0.15, 1.0, size=int(rng.integers(2, 6)))
    height = np.linspace(1.0, -1.0, _ROWS - 4)
    along = np.linspace(0.0, 1.0, len(knots))
    radius = np.interp((1.0 - height) / 2, along, knots)
    if rng.random() < 0.6:  # else its profile keeps its corners
        padded = np.pad(radius, 3, mode="edge")
        radius = np.convolve(padded, np.ones(7) / 7, mode="valid")
    # The ends are closed by discs; their rims are there twice, so that they stay sharp.
    radius = np.concatenate([[0.0, radius[0]], radius, [radius[-1], 0.0]])
    height = np.concatenate([[1.0, 1.0], height, [-1.0, -1.0]])
    around = np.linspace(0.0, -2 * np.pi, _COLUMNS)
    x, z = radius[:, None] * np.cos(around), radius[:, None] * np.sin(around)
    y = np.repeat(height[:, None], _COLUMNS, axis=1)
    slim = np.array([rng.uniform(0.3, 1.0), 1.0, 1.0])
    slim[2] = slim[0] * rng.uniform(0.7, 1.0)
    return weave(np.stack([x, y, z], -1) * slim)


def draw_lump(rng: np.random.Generator) -> Mesh:
    """Return a ball that noise has deformed: a stone, a cloud, something grown."""
    down, around = _angles()
    ball = np.stack(
        [np.sin(down) * np.cos(around), np.cos(down), np.sin(down) * np.sin(around)], -1
    )
    count = int(rng.integers(4, 12))
    waves = rng.normal(0.0, 1.0, size=(count, 3))
    waves *= rng.uniform(1.5, 5.5, size=(count, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    heights = np.sin(ball @ waves.T + rng.uniform(0.0, 2 * np.pi, size=count))  # (R, C, K)
    strength = rng.uniform(0.2, 0.6) / np.linalg.norm(waves, axis=1)
    radius = np.maximum(0.25, 0.8 + (heights * strength).sum(axis=-1))
    return weave(ball * radius[..., None] * _draw_proportions(rng))


def draw_blob(rng: np.random.Generator) -> Points:
    """Return the corners (N, 2) of a flat shape with lobes or spikes about the origin."""
    around = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    orders = np.arange(1, 7)
    strength = rng.normal(0.0, 0.22, size=6) / np.sqrt(orders)
    strength[int(rng.integers(2, 6))] += rng.uniform(0.0, 0.35)
    phases = rng.uniform(0.0, 2 * np.pi, size=6)
    radius = 0.75 + (strength * np.cos(around[:, None] * orders + phases)).sum(axis=1)
    radius = np.clip(radius, 0.15, 1.3)
    return radius[:, None] * np.stack([np.cos(around), np.sin(around)], -1)


def extrude(polygon: Points, uv: Points, *, depth: float) -> Mesh:
    """Return a solid whose front and back are a simple polygon (N, 2), `depth` apart.

    `uv` (N, 2) are its corners' places in the texture, which the sides continue.
    """
    if is_clockwise(polygon):
        polygon, uv = polygon[::-1], uv[::-1]
    count = len(polygon)
    filled = triangulate(polygon)
    near = np.concatenate([polygon, np.full((count, 1), depth / 2)], axis=1)
    far = near * (1.0, 1.0, -1.0)
    toward = np.tile([0.0, 0.0, 1.0], (count, 1))
    # Each side has corners of its own, so that its edges are sharp.
    after = np.roll(np.arange(count), -1)
    sides = np.stack([near, far, far[after], near[after]], axis=1)  # (N, 4, 3)
    across = np.cross(sides[:, 1] - sides[:, 0], sides[:, 3] - sides[:, 0])
    first = 2 * count + 4 * np.arange(count)[:, None]
    halves = first + np.array([0, 1, 2, 0, 2, 3])
    triangles = [filled, filled[:, ::-1] + count, halves.reshape(-1, 3)]
    return _join(
        np.concatenate([near, far, sides.reshape(-1, 3)]),
        np.concatenate([toward, -toward, np.repeat(across, 4, axis=0)]),
        np.concatenate([uv, uv, np.stack([uv, uv, uv[after], uv[after]], 1).reshape(-1, 2)]),
        np.concatenate(triangles),
    )


def triangulate(polygon: Points) -> NDArray[np.int64]:
    """Return N - 2 triangles of corners that fill a simple polygon (N, 2), by clipping ears."""
    left = list(range(len(polygon)))
    if is_clockwise(polygon):
        left.reverse()
    triangles = []
    while len(left) > 3:
        ears = (place for place in range(len(left)) if _is_ear(polygon, left, place))
        place = next(ears, 0)  # a polygon that crosses itself has none at last
        triangles.append((left[place - 1], left[place], left[(place + 1) % len(left)]))
        del left[place]
    return np.array([*triangles, tuple(left)], dtype=np.int64)


def is_clockwise(polygon: Points) -> bool:
    """Return whether a polygon (N, 2) runs clockwise where y is up."""
    x, y = polygon.T
    return bool((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() < 0)


def _is_ear(polygon: Points, left: list[int], place: int) -> bool:
    """Return whether the corner is convex and no other corner lies in its triangle."""
    here = [left[place - 1], left[place], left[(place + 1) % len(left)]]
    corners = polygon[here]
    edges = np.roll(corners, -1, axis=0) - corners
    if edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0] <= 1e-12:
        return False
    others = polygon[[corner for corner in left if corner not in here]]
    away = others[:, None] - corners  # (N - 3, 3, 2)
    beside = edges[:, 0] * away[..., 1] - edges[:, 1] * away[..., 0]
    return not (beside >= 0).all(axis=1).any()


def _angles() -> tuple[Points, Points]:
    """Return the angles from the pole and around the axis of a ball's grid, (R, C) each.

    They run such that the grid faces outward.
    """
    down, around = np.linspace(0.0, np.pi, _ROWS), np.linspace(0.0, -2 * np.pi, _COLUMNS)
    grid = np.meshgrid(down, around, indexing="ij")
    return grid[0], grid[1]


def _signed_power(values: Points, power: float) -> Points:
    values = np.where(np.abs(values) < 1e-9, 0.0, values)  # a small power would make much of it
    return np.asarray(np.sign(values) * np.abs(values) ** power)


def _draw_proportions(rng: np.random.Generator) -> Points:
    """Return factors along the axes (3,), the largest 1."""
    factors = np.exp(rng.normal(0.0, 0.45, size=3))
    return np.asarray(factors / factors.max())
