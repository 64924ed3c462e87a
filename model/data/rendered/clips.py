"""Rendered clips on disk: ordinary videos, made from a seed, added to a folder one by one."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from model.core.palette import write_label_map
from model.data.errors import DataError
from model.data.rendered.renderer import Renderer
from model.data.rendered.sampler import SceneSampler
from model.data.rendered.scene import RenderedScene
from model.data.static import SET_WEIGHTS, Pixels, StillPaths, list_stills

RECORD = "rendered.json"
_TRIES = 20
_LEAST_SHOWN = 0.002  # of a frame, for a body that counts as seen
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class RenderConfig:
    """What decides a clip besides its index."""

    seed: int
    frames: int = 24
    height: int = 360
    width: int = 640
    stills: int = 0  # how many pictures there were to take cut-outs and textures from

    def __post_init__(self) -> None:
        if self.frames < 2 or min(self.height, self.width) < 16:
            raise DataError("a rendered clip has at least 2 frames of at least 16x16 pixels")


class RenderedClip(NamedTuple):
    """Where a clip lies, and whether it was made just now."""

    folder: Path
    made: bool


def list_all_stills(data: Path) -> tuple[StillPaths, ...]:
    """Return the pictures of every set below `data/static`; none where it is not there."""
    folders = [data / "static" / name for name in SET_WEIGHTS]
    return tuple(still for folder in folders if folder.is_dir() for still in list_stills(folder))


def choose_scene(
    renderer: Renderer, sampler: SceneSampler, config: RenderConfig, index: int
) -> RenderedScene:
    """Return the scene of clip `index`: the first drawn one that shows two bodies throughout."""
    for attempt in range(_TRIES):
        scene = sampler.draw_scene(np.random.default_rng([config.seed, index, attempt]))
        labels = renderer.label(scene, (0, config.frames // 2, config.frames - 1))
        if shows_bodies(labels):
            return scene
    raise DataError(f"{_TRIES} scenes in a row showed too little (seed {config.seed})")


def shows_bodies(labels: Pixels) -> bool:
    """Return whether every frame (F, H, W) shows two bodies at least, and some backdrop."""
    for frame in labels:
        shares = np.bincount(frame.reshape(-1), minlength=256) / frame.size
        if (shares[1:] >= _LEAST_SHOWN).sum() < 2 or shares[0] < 0.25:
            return False
    return True


def render_clips(
    folder: Path, renderer: Renderer, sampler: SceneSampler, config: RenderConfig, *, clips: int
) -> Iterator[RenderedClip]:
    """Write the clips that `folder` lacks of so many; yield each when it is there.

    Each is `<name>/{frames,masks}/NNNNN.{jpg,png}`, written aside and renamed, so it is whole.
    Raise DataError where it cannot be written, or holds clips that were made in another way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        keep_record(folder, config, renderer.name)
        for index in range(clips):
            clip = RenderedClip(path := folder / f"{config.seed}-{index:05d}", not path.is_dir())
            if clip.made:
                scene = choose_scene(renderer, sampler, config, index)
                write_clip(path, *renderer.render(scene, range(config.frames)))
            yield clip
    except OSError as error:
        raise DataError(f"cannot write into {folder}: {error.strerror}") from error


def keep_record(folder: Path, config: RenderConfig, name: str) -> None:
    """Write down how the clips of a folder are made; raise DataError where that was otherwise."""
    path = folder / RECORD
    made = {key: value for key, value in asdict(config).items() if key != "seed"}
    if path.exists():
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise DataError(f"{path} is no record of rendered clips") from error
        other = [f"{key} {before.get(key)}" for key in made if before.get(key) != made[key]]
        if other:
            raise DataError(f"the clips in {folder} were made with {', '.join(other)}")
        return
    path.write_text(json.dumps({**made, "renderer": name}, indent=2) + "\n", encoding="utf-8")


def write_clip(folder: Path, frames: Pixels, labels: Pixels) -> None:
    """Write frames (F, H, W, 3) as JPEG and labels (F, H, W) as palette PNG into a new folder."""
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    for kind in ("frames", "masks"):
        (aside / kind).mkdir(parents=True)
    for moment, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (aside / "frames" / f"{moment:05d}.jpg").write_bytes(data.tobytes())
        (aside / "masks" / f"{moment:05d}.png").write_bytes(write_label_map(label))
    aside.rename(folder)
