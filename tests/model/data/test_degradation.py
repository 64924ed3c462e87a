"""Training videos made hard."""

from pathlib import Path

import numpy as np
import pytest

from model.core.image_headers import ImageLimits
from model.core.pixels import read_image
from model.data.degradation import Hardship, degrade, draw_hardship, make_degraded_videos, shrink
from model.data.video import Video, open_video

SIZE = (128, 224)
NONE = Hardship(zoom=1.0, blur=0.0, contrast=1.0, light=0.0, noise=0.0, quality=95)


@pytest.fixture(scope="module")
def video(drawn_data: Path) -> Video:
    return open_video(drawn_data / "video", "walk")


def test_a_clip_is_a_function_of_its_seed(video: Video) -> None:
    first, again = (
        list(make_degraded_videos([video], seed=1, count=3, size=SIZE)) for _ in range(2)
    )
    for (name, images, masks), (_, same_images, same_masks) in zip(first, again, strict=True):
        assert name.endswith("walk")
        assert images == same_images
        assert (masks == same_masks).all()
        assert masks.shape == (len(images), *SIZE)
        assert masks[0].any()


def test_without_hardship_nothing_changes() -> None:
    rng = np.random.default_rng(0)
    assert draw_hardship(rng, most=0.0) == Hardship(1.0, 0.0, 1.0, 0.0, 0.0, 90)
    image = np.full((*SIZE, 3), 90, np.uint8)
    assert np.abs(shrink(image, NONE, SIZE).astype(int) - 90).max() == 0
    seen = read_image(degrade(image, NONE, rng), ImageLimits())
    assert np.abs(seen.astype(int) - 90).max() <= 2


def test_a_scene_gets_smaller_about_its_middle() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[44:84, 92:132] = 1
    small = shrink(mask, Hardship(0.5, 0.0, 1.0, 0.0, 0.0, 90), SIZE)
    rows, columns = np.nonzero(small)
    assert small.sum() == pytest.approx(mask.sum() / 4, rel=0.15)
    assert rows.mean() == pytest.approx(SIZE[0] / 2, abs=1)
    assert columns.mean() == pytest.approx(SIZE[1] / 2, abs=1)


def test_a_picture_and_its_mask_stay_together(video: Video) -> None:
    """What is bright in a picture is what its mask says, however it is made smaller."""
    mask = np.zeros((90, 160), np.uint8)
    mask[20:50, 30:70] = 1
    picture = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    hardship = Hardship(0.6, 0.0, 1.0, 0.0, 0.0, 90)
    bright = shrink(picture, hardship, SIZE)[..., 0] > 127
    inside = shrink(mask, hardship, SIZE) > 0
    middle = (slice(26, 102), slice(46, 178))  # without the mirrored border
    differs = np.count_nonzero(bright[middle] != inside[middle])
    assert differs < 0.05 * np.count_nonzero(inside)
