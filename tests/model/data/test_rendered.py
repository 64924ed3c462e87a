"""The renderer: exact labels, bodies that hide each other, blur, shadows, the same bytes again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.rendered.meshes import make_sheet, weave
from model.data.rendered.renderer import Renderer
from model.data.rendered.sampler import SceneSampler, cut_still
from model.data.rendered.scene import (
    Body,
    Curve,
    Piece,
    RenderedScene,
    Sun,
    rest,
    translate,
)
from model.data.static import Pixels, StillPaths

HEIGHT, WIDTH = 72, 128
DARK = Sun(np.array([0.0, 0.6, 0.8]), np.zeros(3))
UP = np.array([0.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    """One for all tests of this file."""
    with Renderer(height=HEIGHT, width=WIDTH) as made:
        yield made


def paint(*color: int) -> Pixels:
    """A texture of one color."""
    return np.full((2, 2, 3), color, np.uint8)


def make_ball(label: int, color: Pixels, way: Curve, *, size: float = 0.5) -> Body:
    """A ball that shows its own color wherever the sun stands."""
    down, around = np.meshgrid(
        np.linspace(0, np.pi, 17), np.linspace(0, 2 * np.pi, 25), indexing="ij"
    )
    points = [np.sin(down) * np.cos(around), np.cos(down), np.sin(down) * np.sin(around)]
    piece = Piece(weave(np.stack(points, -1)), color, glow=1.0)
    return Body(label, (piece,), way, UP, rest(0.0), size)


def make_scene(*bodies: Body, sun: Sun = DARK, shutter: float = 0.0) -> RenderedScene:
    """The bodies before a gray wall and a camera at rest."""
    behind = translate(np.array([0.0, 0.0, -3.0]))
    wall = Piece(make_sheet(20.0, 12.0), paint(90, 90, 90), pose=behind, glow=0.5)
    return RenderedScene(
        bodies=bodies,
        backdrop=(wall,),
        eye=rest(0.0, 0.0, 5.0),
        aim=rest(0.0, 0.0, 0.0),
        roll=rest(0.0),
        view=0.5,
        sun=sun,
        shutter=shutter,
    )


def paint_by_label(scene: RenderedScene) -> RenderedScene:
    """The scene in one color a label, without sun: (40 * label, 7, 255 - 30 * label)."""

    def repaint(piece: Piece, label: int) -> Piece:
        color = paint(40 * (label % 6), 7 * label, 255 - 30 * (label % 8))
        return replace(piece, texture=color, glow=1.0, gloss=0.0)

    bodies = tuple(
        replace(body, pieces=tuple(repaint(piece, body.label) for piece in body.pieces))
        for body in scene.bodies
    )
    backdrop = tuple(repaint(piece, 0) for piece in scene.backdrop)
    return replace(scene, bodies=bodies, backdrop=backdrop, sun=DARK, sky=(0.0, 0.0, 1.0))


def test_a_label_is_exactly_where_its_color_is(renderer: Renderer) -> None:
    sampler, seen = SceneSampler(), set()
    for seed in range(4):
        scene = paint_by_label(sampler.draw_scene(np.random.default_rng(seed)))
        scene = replace(scene, shutter=0.0)
        frames, labels = renderer.render(scene, (0, 11, 23), samples=1)
        color = np.zeros((256, 3), np.uint8)
        for label in range(9):
            color[label] = 40 * (label % 6), 7 * label, 255 - 30 * (label % 8)
        assert (frames == color[labels]).all()
        seen |= set(np.unique(labels))
    assert len(seen) >= 6


def test_what_is_nearer_hides_what_is_behind(renderer: Renderer) -> None:
    far = make_ball(2, paint(200, 0, 0), rest(0.0, 0.0, -1.0))
    near = make_ball(
        1, paint(0, 200, 0), Curve(-np.array([1.2, 0, -1]), np.array([1.2, 0, 0]), 0 * UP)
    )
    alone = renderer.label(make_scene(far), (0, 24))
    both = renderer.label(make_scene(near, far), (0, 24))
    assert (both[0] == 2).sum() == (alone[0] == 2).sum()  # not yet before it
    assert both[1, HEIGHT // 2, WIDTH // 2] == 1
    assert (both[1] == 2).sum() == 0
    nobody = replace(near, label=0)  # what has no label hides as well
    assert (renderer.label(make_scene(nobody, far), (24,)) == 2).sum() == 0


def test_what_moves_is_blurred_while_the_shutter_is_open(renderer: Renderer) -> None:
    way = Curve(np.array([-1.0, 0.0, 0.0]), np.array([9.0, 0.0, 0.0]), np.zeros(3))
    ball = make_ball(1, paint(255, 255, 255), way)
    sharp, labels = renderer.render(make_scene(ball), (3,))
    soft, again = renderer.render(make_scene(ball, shutter=0.8), (3,))
    assert (labels == again).all()  # the mask is that of the middle of the exposure
    between = [int(((frame > 60) & (frame < 240)).sum()) for frame in (sharp, soft)]
    assert between[1] > 3 * between[0] > 0
    brightness = soft[0, ..., 0].astype(float) - soft[0, 0, 0, 0]
    middle = (brightness.sum(axis=0) * np.arange(WIDTH)).sum() / brightness.sum()
    assert middle == pytest.approx(np.nonzero(labels[0])[1].mean(), abs=1.0)


def test_bodies_cast_shadows(renderer: Renderer) -> None:
    sun = Sun(np.array([0.0, 0.6, 0.8]), np.full(3, 0.5))
    ball = make_ball(1, paint(255, 255, 255), rest(0.0, 0.4, -2.0))
    (bright,), _ = renderer.render(make_scene(sun=sun), (0,))
    (frame,), (labels,) = renderer.render(make_scene(ball, sun=sun), (0,))
    darker = (frame[..., 0] < bright[..., 0] - 15) & (labels == 0)
    assert 20 < darker.sum() < 0.2 * labels.size
    assert np.nonzero(darker)[0].mean() > np.nonzero(labels)[0].mean()  # the sun stands above


def test_soft_bodies_bend(renderer: Renderer) -> None:
    ball = make_ball(1, paint(255, 255, 255), rest(0.0, 0.0, 0.0))
    bent = replace(ball, pieces=(replace(ball.pieces[0], bend=rest(0.0, 0.8, 0.0)),))
    straight, curved = (
        renderer.label(make_scene(ball), (0,)),
        renderer.label(make_scene(bent), (0,)),
    )
    assert (straight != curved).any()


def draw_frames(renderer: Renderer, seed: int) -> tuple[bytes, bytes]:
    scene = SceneSampler().draw_scene(np.random.default_rng(seed))
    frames, labels = renderer.render(scene, (7,))
    return frames.tobytes(), labels.tobytes()


def test_the_same_seed_gives_the_same_bytes(renderer: Renderer) -> None:
    first = draw_frames(renderer, 8)
    assert first == draw_frames(renderer, 8)
    with Renderer(height=HEIGHT, width=WIDTH) as other:
        assert first == draw_frames(other, 8)
    assert first == draw_frames(renderer, 8)
    assert first != draw_frames(renderer, 9)


def test_scenes_hold_three_to_eight_bodies_of_many_kinds() -> None:
    scenes = [SceneSampler().draw_scene(np.random.default_rng(seed)) for seed in range(16)]
    counts = {max(body.label for body in scene.bodies) for scene in scenes}
    assert {3, 8} <= counts <= set(range(3, 9))
    traits = {trait for scene in scenes for trait in scene.traits}
    assert traits == {"twins", "blurred", "hidden", "wall", "floor"}


def find_halves(frame: Pixels, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The mean colors of the left, right, upper and lower half of what a mask shows, (4, 3)."""
    places = np.argwhere(mask).mean(axis=0)
    above = np.broadcast_to(np.arange(mask.shape[0])[:, None] < places[0], mask.shape)
    left = np.broadcast_to(np.arange(mask.shape[1]) < places[1], mask.shape)
    halves = (left, ~left, above, ~above)
    return np.stack([frame[mask & half].mean(axis=0) for half in halves]).astype(np.int64)


def test_a_cut_out_looks_like_its_picture(renderer: Renderer, tmp_path: Path) -> None:
    image = np.full((60, 80, 3), 128, np.uint8)
    image[:30, :, 0], image[30:, :, 0] = 40, 220
    image[:, :40, 2], image[:, 40:, 2] = 60, 200
    mask = np.zeros((60, 80), np.uint8)
    mask[10:50, 20:60] = 255
    mask[10:25, 20:45] = 0  # a corner is missing
    paths = StillPaths(tmp_path / "0.jpg", tmp_path / "0.png")
    cv2.imwrite(str(paths.image), image[..., ::-1])
    cv2.imwrite(str(paths.mask), mask)
    piece = cut_still(paths, np.random.default_rng(0))
    assert piece is not None
    body = Body(1, (replace(piece, glow=1.0),), rest(0.0, 0.0, 0.0), UP, rest(0.0), 0.9)
    frames, labels = renderer.render(make_scene(body), (0,), samples=1)
    wanted = find_halves(image, np.asarray(mask > 0))
    assert np.abs(find_halves(frames[0], labels[0] == 1) - wanted).max() < 25
    rows, columns = np.nonzero(labels[0])
    corner = labels[0][rows.min() : rows.min() + 10, columns.min() : columns.min() + 10]
    assert not corner.any()
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.12)


def run_command(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ["data", "render", "-o", os.devnull, "--clips", "1", "--noise-only"]
    return subprocess.run(
        [sys.executable, "-c", f"{code}\nfrom model.__main__ import main; sys.exit(main({words}))"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "environment", "said"),
    [
        ("import sys; sys.modules['moderngl'] = None", {}, "install the extra `render`"),
        ("import sys", {"GLCONTEXT_LINUX_LIBEGL": "/nowhere.so"}, "apt-get install libegl1 libgl1"),
    ],
)
def test_what_rendering_lacks_is_told_in_one_line(
    code: str, environment: dict[str, str], said: str
) -> None:
    done = run_command(code, **environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
