"""The shipped model on the built-in sample, given as people give it: as good as a clean clip.

The clean clip is tracked in the same run; J is the mean over the frames after the first.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.core.contract import SHIPPED_WEIGHTS
from model.core.j_and_f import jaccard
from model.core.palette import davis_palette, read_label_map
from model.core.pixels import ImageLimits
from service.__main__ import main
from service.media.images import LARGE_BYTES, encode_jpeg, encode_png
from service.media.sample import draw_sample
from tests.support.running import Running, running_service

FRAMES = 5
Pixels = NDArray[np.uint8]


class Sample(NamedTuple):
    """The first frames of the sample: pictures (H, W, 3) and masks of 0 and 1, (H, W)."""

    pictures: list[Pixels]
    truth: list[Pixels]


@pytest.fixture(scope="module")
def sample() -> Sample:
    drawn = [pair for pair, _ in zip(draw_sample(), range(FRAMES), strict=False)]
    pictures, labels = zip(*drawn, strict=True)
    return Sample(list(pictures), [(each > 0).astype(np.uint8) for each in labels])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of the model as it is shipped."""
    state = tmp_path_factory.mktemp("shipped")
    settings = {"TAMVT_MODEL": "tamvt-mobile"}
    with running_service(state=state, weights=SHIPPED_WEIGHTS, settings=settings) as service:
        yield service


def track(shipped: Running, folder: Path, mask: bytes) -> list[Pixels]:
    """Track the frames in a folder and return the label maps of those after the first."""
    (folder.parent / "mask.png").write_bytes(mask)
    words = ["track", str(folder), "--mask", str(folder.parent / "mask.png")]
    assert main([*words, "-o", str(folder.parent / "out"), "--url", shipped.url]) == 0
    masks = sorted((folder.parent / "out" / "masks").iterdir())
    return [read_label_map(path.read_bytes(), ImageLimits()) for path in masks[1:]]


def write_frames(folder: Path, sample: Sample) -> Path:
    folder.mkdir(parents=True)
    for number, picture in enumerate(sample.pictures):
        (folder / f"{number:05d}.jpg").write_bytes(encode_jpeg(picture))
    return folder


def score(found: list[Pixels], sample: Sample) -> float:
    """Return J in percent of what is not background."""
    pairs = zip(found, sample.truth[1:], strict=True)
    return 100 * float(np.mean([jaccard(mask > 0, true > 0) for mask, true in pairs]))


def png(image: Pixels | Image.Image) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def clean(shipped: Running, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> float:
    """J of the clip with its clean mask."""
    folder = write_frames(tmp_path_factory.mktemp("clean") / "frames", sample)
    return score(track(shipped, folder, png(sample.truth[0])), sample)


def soft(mask: Pixels) -> Pixels:
    """White with anti-aliased edges, as paint programs draw."""
    return np.asarray(cv2.GaussianBlur(mask * np.uint8(255), (0, 0), 0.8), np.uint8)


def few_levels(mask: Pixels) -> Pixels:
    return np.asarray(np.rint(soft(mask) / 64.0) * 63.75, np.uint8)


def noise(mask: Pixels) -> Pixels:
    white = mask * np.uint8(255)
    rng = np.random.default_rng(0)
    for value, there in ((1, 0), (254, 1)):
        rows, columns = np.nonzero(mask == there)
        chosen = rng.choice(len(rows), 40, replace=False)
        white[rows[chosen], columns[chosen]] = value
    return white


def adaptive(mask: Pixels) -> Image.Image:
    """A palette whose index 0 is the object, white, and index 1 the background."""
    image = Image.fromarray(1 - mask)
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


def adaptive_3(mask: Pixels) -> Image.Image:
    """Two objects, red and green, whose background has index 2."""
    left = np.arange(mask.shape[1]) < np.median(np.nonzero(mask)[1])
    image = Image.fromarray(np.where(mask == 0, 2, np.where(left, 0, 1)).astype(np.uint8))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 0])
    return image


def flat_color(mask: Pixels) -> Pixels:
    return np.array([(0, 0, 0), (250, 50, 83)], np.uint8)[mask]


MASKS: list[Callable[[Pixels], Pixels | Image.Image]] = [
    soft,
    few_levels,
    noise,
    adaptive,
    adaptive_3,
    flat_color,
]


@pytest.mark.parametrize("draw", MASKS, ids=lambda draw: str(draw.__name__))
def test_a_mask_as_it_is_saved_is_tracked_as_well_as_a_clean_one(
    draw: Callable[[Pixels], Pixels | Image.Image],
    shipped: Running,
    sample: Sample,
    clean: float,
    tmp_path: Path,
) -> None:
    folder = write_frames(tmp_path / "frames", sample)
    found = score(track(shipped, folder, png(draw(sample.truth[0]))), sample)
    assert found > clean - 1


def test_large_pngs_are_tracked_as_well_as_small_jpegs(
    shipped: Running, sample: Sample, clean: float, tmp_path: Path
) -> None:
    (tmp_path / "frames").mkdir()
    rng = np.random.default_rng(0)
    for number, picture in enumerate(sample.pictures):
        large = cv2.resize(picture, (2560, 1440), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        large += rng.integers(-8, 9, large.shape, dtype=np.int16)
        data = encode_png(np.clip(large, 0, 255).astype(np.uint8))
        assert len(data) > LARGE_BYTES
        (tmp_path / "frames" / f"{number:05d}.png").write_bytes(data)
    mask = cv2.resize(sample.truth[0], (2560, 1440), interpolation=cv2.INTER_NEAREST)
    found = track(shipped, tmp_path / "frames", png(np.asarray(mask, np.uint8)))
    assert found[0].shape == (1440, 2560)
    small = [cv2.resize(each, (640, 360), interpolation=cv2.INTER_NEAREST) for each in found]
    assert score([np.asarray(each, np.uint8) for each in small], sample) > clean - 1


def many_cups(sample: Sample, number: int) -> tuple[Pixels, Pixels]:
    """Twenty cups, each of its own color, that move over dark ground: a picture, and ids."""
    rows, columns = np.nonzero(sample.truth[0])
    cut = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    cup = cv2.resize(sample.pictures[0][cut], (84, 64), interpolation=cv2.INTER_AREA)
    shape = cv2.resize(sample.truth[0][cut], (84, 64), interpolation=cv2.INTER_NEAREST) > 0
    picture = np.full_like(sample.pictures[0], 24)
    labels = np.zeros(picture.shape[:2], np.uint8)
    for object_id in range(1, 21):
        row, column = divmod(object_id - 1, 5)
        top, left = 8 + 90 * row + 2 * number, 10 + 126 * column + 3 * number
        colored = cup[shape] * 0.4 + davis_palette()[object_id] * 0.6
        picture[top : top + 64, left : left + 84][shape] = colored
        labels[top : top + 64, left : left + 84][shape] = object_id
    return picture, labels


def test_twenty_objects_are_tracked(shipped: Running, sample: Sample, tmp_path: Path) -> None:
    pictures, labels = zip(*(many_cups(sample, number) for number in range(3)), strict=True)
    folder = write_frames(tmp_path / "frames", Sample(list(pictures), []))
    found = track(shipped, folder, png(labels[0]))
    for each, true in zip(found, labels[1:], strict=True):
        scores = [jaccard(each == object_id, true == object_id) for object_id in range(1, 21)]
        assert np.mean(scores) > 0.8
