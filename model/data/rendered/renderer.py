"""Scenes made into pictures and exact labels, with OpenGL.

F frames of H x W pixels. A picture is the mean of several drawings, each a bit later and shifted
within the pixel: so edges are smooth, and what moves while the shutter is open is blurred. Labels
are drawn once, in the middle of that time, without smoothing: a pixel is of the body that its
center shows.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from model.data.rendered.context import open_context
from model.data.rendered.meshes import Mesh
from model.data.rendered.scene import (
    FRAMES_PER_S,
    Matrix,
    Piece,
    RenderedScene,
    project_along,
    translate,
)
from model.data.rendered.shaders import (
    DEPTH_VERTICES,
    LABEL_PIXELS,
    NO_PIXELS,
    PICTURE_PIXELS,
    PICTURE_VERTICES,
)
from model.data.static import Pixels

SHARP_SAMPLES, BLURRED_SAMPLES = 4, 7
_SHADOW_SIDE, _SHADOW_REACH = 1024, 6.0


class LoadedMesh(NamedTuple):
    """A mesh in OpenGL's memory, as each of the programs reads it."""

    picture: Any
    labels: Any
    shadow: Any


class Placed(NamedTuple):
    """A piece where it is at some time, and the label of what it belongs to."""

    piece: Piece
    model: Matrix
    label: int
    casts: bool


class Renderer:
    """Draws scenes at one size; holds an OpenGL context, and is closed by `with`.

    Raise RendererUnavailable where there can be none. The same scene gives the same bytes each
    time on one machine; `name` tells by what it draws.
    """

    def __init__(self, *, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._context: Any = open_context()
        gl = self._context
        self.name = str(gl.info["GL_RENDERER"])
        self._picture = gl.program(vertex_shader=PICTURE_VERTICES, fragment_shader=PICTURE_PIXELS)
        self._labels = gl.program(vertex_shader=DEPTH_VERTICES, fragment_shader=LABEL_PIXELS)
        self._shadow = gl.program(vertex_shader=DEPTH_VERTICES, fragment_shader=NO_PIXELS)
        size = (width, height)
        self._picture_target = gl.simple_framebuffer(size, components=4)
        depth = gl.depth_renderbuffer(size)
        self._labels_target = gl.framebuffer([gl.renderbuffer(size, components=1)], depth)
        shadow = gl.depth_texture((_SHADOW_SIDE, _SHADOW_SIDE))
        shadow.compare_func = "<="
        shadow.repeat_x = shadow.repeat_y = False
        self._shadow_target = gl.framebuffer(depth_attachment=shadow)
        shadow.use(location=1)
        self._picture["surface"], self._picture["shadow"] = 0, 1
        gl.enable(gl.DEPTH_TEST)

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.release()

    def render(
        self, scene: RenderedScene, moments: Iterable[int], *, samples: int | None = None
    ) -> tuple[Pixels, Pixels]:
        """Return the frames uint8 (F, H, W, 3) at these moments, and labels uint8 (F, H, W).

        `samples` are the drawings of a picture; 1 is neither smooth nor blurred.
        """
        count = samples or (BLURRED_SAMPLES if scene.shutter else SHARP_SAMPLES)
        moments = list(moments)
        frames = np.empty((len(moments), self.height, self.width, 3), np.uint8)
        labels = np.empty((len(moments), self.height, self.width), np.uint8)
        with self._context, self._loaded(scene) as loaded:
            for place, moment in enumerate(moments):
                frames[place] = self._draw_frame(scene, loaded, moment, count)
                labels[place] = self._draw_labels(scene, loaded, moment)
        return frames, labels

    def label(self, scene: RenderedScene, moments: Iterable[int]) -> Pixels:
        """Return the labels uint8 (F, H, W) alone, which costs much less."""
        with self._context, self._loaded(scene) as loaded:
            return np.stack([self._draw_labels(scene, loaded, moment) for moment in moments])

    @contextmanager
    def _loaded(self, scene: RenderedScene) -> Iterator["_Loaded"]:
        """Put the scene's meshes and textures into OpenGL's memory for as long as it is drawn."""
        pieces = [*scene.backdrop, *(piece for body in scene.bodies for piece in body.pieces)]
        loaded = _Loaded({}, {}, [])
        try:
            for piece in pieces:
                if id(piece.mesh) not in loaded.meshes:
                    loaded.meshes[id(piece.mesh)] = self._load_mesh(piece.mesh, loaded)
                if id(piece.texture) not in loaded.textures:
                    texture = self._load_texture(piece.texture)
                    loaded.textures[id(piece.texture)] = texture
                    loaded.resources.append(texture)
            yield loaded
        finally:
            for resource in reversed(loaded.resources):
                resource.release()

    def _load_mesh(self, mesh: Mesh, loaded: "_Loaded") -> LoadedMesh:
        gl = self._context
        vertices, indices = gl.buffer(mesh.vertices.tobytes()), gl.buffer(mesh.triangles.tobytes())
        everything = [(vertices, "3f 3f 2f", "position", "normal", "uv")]
        positions = [(vertices, "3f 20x", "position")]
        made = LoadedMesh(
            gl.vertex_array(self._picture, everything, indices),
            gl.vertex_array(self._labels, positions, indices),
            gl.vertex_array(self._shadow, positions, indices),
        )
        loaded.resources.extend([vertices, indices, *made])
        return made

    def _load_texture(self, image: Pixels) -> Any:
        height, width = image.shape[:2]
        texture = self._context.texture((width, height), 3, image.tobytes(), alignment=1)
        texture.build_mipmaps()
        texture.repeat_x = texture.repeat_y = False
        return texture

    def _draw_frame(
        self, scene: RenderedScene, loaded: "_Loaded", moment: int, samples: int
    ) -> Pixels:
        """Return the picture of a moment, uint8 (H, W, 3): the mean of its drawings."""
        time = moment / FRAMES_PER_S
        sun_camera = project_along(scene.sun.direction, reach=_SHADOW_REACH)
        self._draw_shadow(scene, loaded, time, sun_camera)
        _set(self._picture, "sun_camera", sun_camera)
        total = np.zeros((self.height, self.width, 3), np.uint16)
        for sample in range(samples):
            part = (sample + 0.5) / samples - 0.5
            at = time + part * scene.shutter / FRAMES_PER_S
            shift = _shift_within_pixel(sample) if samples > 1 else (0.0, 0.0)
            total += self._draw_picture(scene, loaded, at, shift)
        return np.asarray((total + samples // 2) // samples, np.uint8)

    def _draw_picture(
        self, scene: RenderedScene, loaded: "_Loaded", time: float, shift: tuple[float, float]
    ) -> Pixels:
        """Return one drawing, uint8 (H, W, 3), shifted by parts of a pixel."""
        program = self._picture
        jitter = translate(np.array([2 * shift[0] / self.width, 2 * shift[1] / self.height, 0.0]))
        camera = jitter @ scene.camera(time, aspect=self.width / self.height)
        _set(program, "camera", camera)
        program["eye"] = tuple(scene.eye.at(time))
        program["sun"] = tuple(scene.sun.direction)
        program["sun_color"] = tuple(scene.sun.color)
        self._picture_target.use()
        self._picture_target.clear(*scene.sky)
        for placed in place_pieces(scene, time):
            piece = placed.piece
            _move(program, placed, time)
            program["scroll"] = tuple(piece.scroll.at(time))
            program["repeat"] = piece.repeat
            program["glow"] = piece.glow
            program["gloss"] = piece.gloss
            loaded.textures[id(piece.texture)].use(location=0)
            loaded.meshes[id(piece.mesh)].picture.render()
        return self._read(self._picture_target, components=3)

    def _draw_labels(self, scene: RenderedScene, loaded: "_Loaded", moment: int) -> Pixels:
        """Return which body each pixel's center shows at a moment, uint8 (H, W)."""
        time = moment / FRAMES_PER_S
        _set(self._labels, "camera", scene.camera(time, aspect=self.width / self.height))
        self._labels_target.use()
        self._labels_target.clear()
        for placed in place_pieces(scene, time):
            _move(self._labels, placed, time)
            self._labels["label"] = placed.label / 255
            loaded.meshes[id(placed.piece.mesh)].labels.render()
        return self._read(self._labels_target, components=1)[..., 0]

    def _draw_shadow(
        self, scene: RenderedScene, loaded: "_Loaded", time: float, sun_camera: Matrix
    ) -> None:
        """Draw how far the sun sees, from the bodies alone."""
        _set(self._shadow, "camera", sun_camera)
        self._shadow_target.use()
        self._shadow_target.clear()
        for placed in place_pieces(scene, time):
            if placed.casts:
                _move(self._shadow, placed, time)
                loaded.meshes[id(placed.piece.mesh)].shadow.render()

    def _read(self, target: Any, *, components: int) -> Pixels:
        """Return what was drawn, uint8 (H, W, components), the top row first."""
        data = np.frombuffer(target.read(components=components, alignment=1), np.uint8)
        return data.reshape(self.height, self.width, components)[::-1]


class _Loaded(NamedTuple):
    """What of a scene lies in OpenGL's memory, by the `id` of its arrays, and how to free it."""

    meshes: dict[int, LoadedMesh]
    textures: dict[int, Any]
    resources: list[Any]


def place_pieces(scene: RenderedScene, time: float) -> Iterator[Placed]:
    """Yield every piece where it is at that time."""
    for piece in scene.backdrop:
        yield Placed(piece, piece.place(time), label=0, casts=False)
    for body in scene.bodies:
        world = body.place(time)
        for piece in body.pieces:
            yield Placed(piece, world @ piece.place(time), body.label, casts=True)


def _move(program: Any, placed: Placed, time: float) -> None:
    _set(program, "model", placed.model)
    program["bend"] = tuple(placed.piece.bend.at(time))


def _set(program: Any, name: str, matrix: Matrix) -> None:
    program[name].write(matrix.T.astype(np.float32).tobytes())  # OpenGL wants its columns


def _shift_within_pixel(sample: int) -> tuple[float, float]:
    """Return where in a pixel a drawing looks, -0.5 to 0.5 each (Halton's sequence)."""
    place = []
    for base in (2, 3):
        number, share, value = sample + 1, 1.0, 0.0
        while number:
            share /= base
            value += share * (number % base)
            number //= base
        place.append(value - 0.5)
    return place[0], place[1]
