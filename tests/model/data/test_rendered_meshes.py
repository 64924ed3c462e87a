"""Meshes of rendered things: closed, of about a unit's radius, with normals that face outward."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.rendered.meshes import (
    Mesh,
    draw_blob,
    draw_lump,
    draw_ring,
    draw_superquadric,
    draw_turned,
    extrude,
    triangulate,
)

SOLIDS = (draw_superquadric, draw_ring, draw_turned, draw_lump)
ARROW = np.array([[0, 0], [4, 0], [4, 3], [3, 1], [1, 1], [0, 3]], np.float64)


def measure_area(polygon: NDArray[np.float64]) -> float:
    """The area of a polygon (..., N, 2), counterclockwise corners counting as positive."""
    x, y = polygon[..., 0], polygon[..., 1]
    return float(0.5 * (x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum())


def draw_extrusion(rng: np.random.Generator) -> Mesh:
    blob = draw_blob(rng)
    return extrude(blob, blob, depth=0.4)


@pytest.mark.parametrize("draw", [*SOLIDS, draw_extrusion])
def test_a_solid_is_closed_and_faces_outward(draw: Callable[[np.random.Generator], Mesh]) -> None:
    for seed in range(5):
        mesh = draw(np.random.default_rng(seed))
        corners = mesh.vertices[:, :3].astype(np.float64)[mesh.triangles]
        faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert np.abs(faces.sum(axis=0)).max() < 1e-4 * np.abs(faces).sum()  # without a hole
        assert (corners * faces[:, None]).sum() > 0  # its volume: triangles run counterclockwise
        normals = mesh.vertices[mesh.triangles][:, :, 3:6].sum(axis=1)
        agrees = (normals * faces).sum(axis=1) >= 0
        assert agrees.mean() > 0.99


@pytest.mark.parametrize("draw", [*SOLIDS, draw_extrusion])
def test_a_solid_is_about_a_unit_large(draw: Callable[[np.random.Generator], Mesh]) -> None:
    for seed in range(5):
        mesh = draw(np.random.default_rng(seed))
        assert np.isfinite(mesh.vertices).all()
        assert 0.3 < np.linalg.norm(mesh.vertices[:, :3], axis=1).max() < 2.0


@pytest.mark.parametrize("polygon", [ARROW, ARROW[::-1]])
def test_ears_fill_a_polygon_with_a_notch_exactly(polygon: NDArray[np.float64]) -> None:
    triangles = polygon[triangulate(polygon)]
    areas = [measure_area(triangle) for triangle in triangles]
    assert min(areas) > 0
    assert sum(areas) == pytest.approx(abs(measure_area(polygon)))


def test_a_polygon_that_crosses_itself_is_filled_somehow() -> None:
    bow_tie = np.array([[0, 0], [1, 1], [1, 0], [0, 1]], np.float64)
    assert triangulate(bow_tie).shape == (2, 3)
