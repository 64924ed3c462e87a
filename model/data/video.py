"""Reader of videos laid out as `<name>/{frames,masks}/NNNNN.{jpg,png}`, and clips cut from them."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.frame_files import FolderError, list_frames
from model.core.masks import IGNORE
from model.data.errors import DataError
from model.data.motion import covering, mirrored
from model.data.static import Pixels, keep_shown, read_labels, read_rgb

# Shares of the crop that the object of the first frame has to cover, and may.
MIN_SHARE, MAX_SHARE = 0.0015, 0.7
_SLOW = 0.86  # overlap of the foregrounds of frames two apart
_GAPS = 0.2  # of clips have one long gap


Windows = NDArray[np.float64]  # (F, 3, 3), a matrix a frame


@dataclass(frozen=True, slots=True)
class Video:
    """One video: its name and the paths of its labeled frames and their masks, in order of time.

    `every` are all its frames, if some have no mask. The objects are `united` into one, or each
    counts; `instances` says that several of them are of one kind, `late` that some appear after
    the first frame. `rate` is labeled frames a second, where that is known; `tags` name the
    subsets that its data set puts it in. `weight` is how often it is drawn beside the others.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    every: tuple[Path, ...] = ()
    united: bool = True
    instances: bool = False
    late: bool = False
    rate: float | None = None
    tags: tuple[str, ...] = ()
    weight: float = 1.0


def read_names(path: Path) -> tuple[str, ...]:
    """Return the names in a split file, one a line."""
    try:
        return tuple(path.read_text(encoding="utf-8").split())
    except OSError as error:
        raise DataError(f"cannot read the list of videos {path}") from error


def training_names(root: Path, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return `names`, or those of `root/train.txt`.

    Raise DataError for none, or for one that is kept for choosing.
    """
    chosen = read_names(root / "train.txt") if names is None else names
    if not chosen:
        raise DataError(f"no videos to train on: {root / 'train.txt'} names none")
    kept = sorted(set(read_names(root / "dev.txt")) & set(chosen))
    if kept:
        raise DataError(f"never train on the dev videos: {', '.join(kept)}")
    return chosen


def open_video(root: Path, name: str) -> Video:
    """Return the video `name` below `root`; a frame without mask, or no frame, is a DataError."""
    folder = root / name
    frames = read_frames(folder / "frames")
    masks = tuple(folder / "masks" / f"{path.stem}.png" for path in frames)
    missing = [path for path in masks if not path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} masks of {name} are missing, first {missing[0]}")
    return Video(name, frames, masks)


def read_frames(folder: Path) -> tuple[Path, ...]:
    """Return the frames of a folder in natural order; raise DataError for none."""
    try:
        files = list_frames(folder)
        files.check()
    except OSError as error:
        raise DataError(f"no frames in {folder}: {error.strerror}") from error
    except FolderError as error:
        raise DataError(str(error)) from error
    return files.frames


def read_mask(path: Path) -> Pixels:
    """Return the united foreground of one frame, uint8 {0, 1} (H, W)."""
    return (read_labels(path) > 0).astype(np.uint8)


def _remembered_mask(path: Path) -> Pixels:
    """Do what `read_mask` does, and keep the masks packed: they are read again and again."""
    packed, shape = _packed_mask(path)
    return np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape)


@lru_cache(maxsize=2048)
def _packed_mask(path: Path) -> tuple[Pixels, tuple[int, int]]:
    mask = read_mask(path)
    return np.packbits(mask), (mask.shape[0], mask.shape[1])


def cut_sample(
    video: Video,
    rng: np.random.Generator,
    *,
    size: int,
    frames: int,
    max_step: int,
    empty: bool = False,
    objects: int = 1,
) -> tuple[Pixels, Pixels] | None:
    """Return frames uint8 (F, size, size, 3) and masks uint8 (F, size, size), or None.

    The masks label up to so many objects 1, 2, ... None where the drawn first frame does not show
    enough of the object, unless it may be `empty`. All frames share one crop, which may drift
    slowly, and one flip. Videos in which little moves are seen at twice the steps.
    """
    longest = max_step * 2 if is_slow(video) and max_step > 1 else max_step
    indices = draw_indices(len(video.frames), rng, frames=frames, max_step=longest)
    paths = [video.masks[index] for index in indices]
    masks = _draw_masks(paths, rng, united=video.united, objects=objects)
    drawn = _draw_crop(masks, rng, size=size, empty=empty)
    if drawn is None:
        return None
    path, cropped = drawn
    if objects > 1:
        cropped = keep_shown(cropped, least=MIN_SHARE)
    images = np.empty((frames, size, size, 3), np.uint8)
    for moment, index in enumerate(indices):
        images[moment] = _warp(read_rgb(video.frames[index]), path[moment], size=size)
    return images, cropped


@lru_cache(maxsize=4096)
def is_slow(video: Video) -> bool:
    """Return whether the foreground of most frames, two apart, stays nearly where it was."""
    starts = np.unique(np.linspace(0, max(0, len(video.masks) - 3), 6).astype(int))
    overlaps = []
    for start in starts:
        later = min(start + 2, len(video.masks) - 1)
        one, other = _remembered_mask(video.masks[start]), _remembered_mask(video.masks[later])
        overlaps.append(float((one & other).sum()) / max(1.0, float((one | other).sum())))
    return bool(np.median(overlaps) > _SLOW)


def _draw_masks(
    paths: list[Path], rng: np.random.Generator, *, united: bool, objects: int
) -> list[Pixels]:
    """Return the masks of all objects united, or labels of some that the first frame shows."""
    if united:
        return [_remembered_mask(path) for path in paths]
    labels = [read_labels(path) for path in paths]
    present = np.setdiff1d(labels[0], [0, IGNORE])
    if objects > 1:
        table = np.zeros(256, np.uint8)
        chosen = rng.permutation(present)[:objects]
        table[chosen] = np.arange(1, len(chosen) + 1)
        return [np.asarray(table[each], np.uint8) for each in labels]
    one = int(rng.choice(present)) if present.size else -1
    return [(each == one).astype(np.uint8) for each in labels]


def draw_indices(
    length: int, rng: np.random.Generator, *, frames: int, max_step: int
) -> NDArray[np.int64]:
    """Return `frames` indices below `length`, forwards or backwards in time, equally far apart.

    In some clips one gap is several times as long. A video that is too short is played forth
    and back.
    """
    longest = max(1, min(max_step, (length - 1) // max(1, frames - 1)))
    step = int(rng.integers(1, longest + 1))
    places = step * np.arange(frames)
    spare = length - 1 - int(places[-1])
    if max_step > 1 and frames > 2 and spare > step and rng.random() < _GAPS:
        places[int(rng.integers(1, frames)) :] += int(rng.integers(step, min(spare, 8 * step) + 1))
    start = int(rng.integers(0, max(1, length - int(places[-1]))))
    indices = start + places
    if rng.random() < 0.5:
        indices = indices[::-1]
    period = max(1, 2 * (length - 1))
    folded = indices % period
    return np.where(folded < length, folded, period - folded).astype(np.int64)


def _draw_crop(
    masks: list[Pixels], rng: np.random.Generator, *, size: int, empty: bool
) -> tuple[Windows, Pixels] | None:
    """Return maps (F, 3, 3) from frame to crop pixels that show enough of the object, or None.

    With them the masks (F, size, size) that they show.

    The first frame shows it, and so does most of the clip: training on nothing teaches little.
    Where the clip may be `empty`, any crop will do.
    """
    height, width = masks[0].shape
    drift = _draw_drift(rng, frames=len(masks))
    if empty:
        anywhere = rng.integers(0, (width, height), size=(1, 2))
        window = _draw_window(anywhere[:, 0], anywhere[:, 1], (height, width), rng, size=size)
        path = drift @ covering(window, drift, (width, height), size=size)
        return path, _warp_masks(masks, path, size=size)
    ys, xs = np.nonzero(masks[0])
    if not xs.size:
        return None
    for _ in range(8):
        window = _draw_window(xs, ys, (height, width), rng, size=size)
        window = covering(window, drift, (width, height), size=size)
        path = drift @ window
        cropped = _warp_masks(masks, path, size=size)
        shares = (cropped > 0).mean(axis=(1, 2))
        visible = shares[0] * size * size / (xs.size * abs(np.linalg.det(window[:2, :2])))
        if not (MIN_SHARE <= shares[0] <= MAX_SHARE and visible >= 0.3):
            continue
        if (shares > 0.2 * shares[0]).mean() >= 0.6 or rng.random() < 0.15:
            return path, cropped
    return None


def _draw_window(
    xs: NDArray[np.integer],
    ys: NDArray[np.integer],
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    size: int,
) -> NDArray[np.float64]:
    """Draw a resize (short side 1 to 2 crops, mild aspect jitter), a crop on the object, a flip.

    The short side is near that of a served picture most often, so that small things stay small.
    """
    height, width = shape[:2]
    zoom = size * np.exp(rng.random() ** 1.4 * np.log(2.0)) / min(height, width)
    aspect = np.exp(rng.normal(0.0, 0.08))
    scale = np.array([zoom * aspect, zoom / aspect])
    room = np.array([width, height]) * scale - size
    pick = int(rng.integers(xs.size))
    # The picked pixel of the object lands anywhere in the crop but at its very edge.
    target = rng.uniform(0.08, 0.92, size=2) * size
    offset = np.clip(np.array([xs[pick], ys[pick]]) * scale - target, 0.0, np.maximum(room, 0.0))
    matrix = np.array([[scale[0], 0, -offset[0]], [0, scale[1], -offset[1]], [0, 0, 1.0]])
    return mirrored(matrix, size=size) if rng.random() < 0.5 else matrix


def _draw_drift(rng: np.random.Generator, *, frames: int) -> NDArray[np.float64]:
    """Return slow motion of the crop itself, (F, 3, 3); still in most clips."""
    drift = np.tile(np.eye(3), (frames, 1, 1))
    if rng.random() < 0.3:
        moments = np.arange(frames)
        drift[:, :2, 2] = moments[:, None] * rng.normal(0.0, 3.0, size=2)
        growth = np.exp(moments * rng.normal(0.0, 0.01))
        drift[:, 0, 0] = drift[:, 1, 1] = growth
    return drift


def _warp(frame: Pixels, matrix: NDArray[np.float64], *, size: int) -> Pixels:
    """Return `frame` seen through `matrix`, uint8 (size, size, 3), mirrored at the border."""
    border = cv2.BORDER_REFLECT_101
    warped = cv2.warpAffine(frame, matrix[:2], (size, size), borderMode=border)
    return np.asarray(warped, dtype=np.uint8)


def _warp_masks(masks: list[Pixels], path: Windows, *, size: int) -> Pixels:
    """Return labels seen through `path`, uint8 (F, size, size), mirrored as their frames are."""
    flags, border = cv2.INTER_NEAREST, cv2.BORDER_REFLECT_101
    return np.stack(
        [
            cv2.warpAffine(mask, matrix[:2], (size, size), flags=flags, borderMode=border)
            for mask, matrix in zip(masks, path, strict=True)
        ]
    ).astype(np.uint8)
