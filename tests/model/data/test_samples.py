"""The sampler: the same clips every time, from the files it may read, with an object to follow."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.errors import DataError
from model.data.layouts import VideoSet
from model.data.samples import Sample, SampleConfig, draw_sample, make_batch, yield_batches
from model.data.synthetic import MAX_SHARE, MIN_SHARE

STEPS = range(12)


def draw(config: SampleConfig, *, synthetic_share: float) -> list[Sample]:
    changed = replace(config, synthetic_share=synthetic_share)
    return [draw_sample(changed, step, index=0) for step in STEPS]


def test_a_clip_depends_on_seed_step_and_index_only(config: SampleConfig) -> None:
    first, again = draw_sample(config, 3, 1), draw_sample(config, 3, 1)
    assert first.source == again.source
    assert (first.frames == again.frames).all()
    assert (first.masks == again.masks).all()


@pytest.mark.parametrize(("drawn", "step", "index"), [(6, 3, 1), (5, 4, 1), (5, 3, 2)])
def test_another_seed_step_or_index_gives_another_clip(
    config: SampleConfig, drawn: int, step: int, index: int
) -> None:
    other = draw_sample(replace(config, seed=drawn), step, index)
    assert (other.frames != draw_sample(config, 3, 1).frames).any()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_clip_has_the_shape_of_its_configuration(config: SampleConfig, share: float) -> None:
    for sample in draw(config, synthetic_share=share):
        assert sample.frames.shape == (4, 64, 64, 3)
        assert sample.masks.shape == (4, 64, 64)
        assert sample.frames.dtype == sample.masks.dtype == np.uint8


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masks_hold_zero_and_one_only(config: SampleConfig, share: float) -> None:
    for sample in draw(config, synthetic_share=share):
        assert set(np.unique(sample.masks)) <= {0, 1}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_reference_shows_the_object_and_some_background(
    config: SampleConfig, share: float
) -> None:
    for sample in draw(config, synthetic_share=share):
        assert MIN_SHARE <= sample.masks[0].mean() <= MAX_SHARE


def test_the_shares_of_still_pictures_and_videos_are_as_asked(config: SampleConfig) -> None:
    samples = [draw_sample(replace(config, synthetic_share=0.75), step, 0) for step in range(120)]
    share = np.mean([sample.source == "static" for sample in samples])
    assert share == pytest.approx(0.75, abs=0.15)


def test_only_training_videos_are_drawn(config: SampleConfig) -> None:
    sources = {sample.source for sample in draw(config, synthetic_share=0.0)}
    assert sources == {"video/walk", "video/run"}


def test_a_dev_video_is_refused(config: SampleConfig) -> None:
    with pytest.raises(DataError, match="never train on the dev videos: kept"):
        draw_sample(replace(config, videos=("walk", "kept")), 0, 0)


def test_a_dev_video_among_the_training_names_is_refused(
    config: SampleConfig, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "train.txt").write_text("walk kept")
    (tmp_path / "video" / "dev.txt").write_text("kept")
    with pytest.raises(DataError, match="kept"):
        draw_sample(replace(config, data=tmp_path, synthetic_share=0.0), 0, 0)


def test_missing_data_is_named(config: SampleConfig, tmp_path: Path) -> None:
    nowhere = replace(config, data=tmp_path)
    with pytest.raises(DataError, match=str(tmp_path / "static" / "ecssd")):
        yield_batches(replace(nowhere, synthetic_share=1.0), first_step=0)
    with pytest.raises(DataError, match=str(tmp_path / "video" / "train.txt")):
        yield_batches(nowhere, first_step=0)


def test_pictures_to_paste_are_missed_by_name(
    config: SampleConfig, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "video").symlink_to(data / "video")
    videos_only = replace(config, data=tmp_path, synthetic_share=0.0)
    with pytest.raises(DataError, match=str(tmp_path / "static" / "ecssd")):
        draw_sample(videos_only, 0, 0)
    assert draw_sample(replace(videos_only, pasted_share=0.0), 0, 0).source != "static"


def test_an_unknown_set_is_named(config: SampleConfig) -> None:
    with pytest.raises(DataError, match="unknown static sets: imagenet"):
        yield_batches(replace(config, static_sets=("imagenet",)), first_step=0)


def test_a_video_that_is_not_there_is_named(config: SampleConfig) -> None:
    with pytest.raises(DataError, match="video/gone/frames"):
        draw_sample(replace(config, videos=("gone",)), 0, 0)


@pytest.mark.parametrize("field", ["synthetic_share", "pasted_share"])
@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_an_impossible_share_is_refused(config: SampleConfig, field: str, share: float) -> None:
    change: dict[str, Any] = {field: share}
    with pytest.raises(DataError, match=field):
        replace(config, **change)


def test_nothing_is_added_to_videos_where_nothing_is_asked_for(config: SampleConfig) -> None:
    additions = {"things over video", "small target on video", "twin on video", "transplanted"}
    for share, added in ((0.0, False), (1.0, True)):
        samples = draw(replace(config, pasted_share=share), synthetic_share=0.0)
        assert any(additions & set(sample.traits) for sample in samples) == added


def test_published_videos_alone_need_no_pictures(config: SampleConfig, data: Path) -> None:
    sets = (VideoSet("shared", data / "video"),)
    alone = replace(config, data=data / "nowhere", video_sets=sets, synthetic_share=0.0)
    assert not alone.pastes
    assert draw_sample(alone, 0, 0).source in {"video/walk", "video/run"}


def test_extra_videos_are_drawn_by_their_weight_and_never_the_held_out(
    config: SampleConfig,
) -> None:
    samples = [
        draw_sample(replace(config, extra_weight=1.0, synthetic_share=0.0), step, 0)
        for step in range(60)
    ]
    names = {sample.source.removeprefix("video/") for sample in samples}
    extra = {"davis2017-school", "davis2017_instances-walk", "ucsd-boats"}
    assert names == {"walk", "run", *extra}
    assert (
        0.3 < np.mean([sample.source.removeprefix("video/") in extra for sample in samples]) < 0.7
    )


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_several_objects_are_labeled_and_shown_in_the_reference(
    config: SampleConfig, share: float
) -> None:
    several = replace(config, objects=(0.0, 0.0, 1.0), extra_weight=1.0)
    counts = set()
    for sample in draw(several, synthetic_share=share):
        count = int(sample.masks.max())
        assert np.unique(sample.masks[0]).tolist() == list(range(count + 1))
        counts.add(count)
    assert max(counts) == 3
    assert min(counts) >= 1


def test_the_objects_of_a_step_are_drawn_by_their_shares(config: SampleConfig) -> None:
    several = replace(config, objects=(0.5, 0.0, 0.5))
    counts = [several.objects_of(step) for step in range(200)]
    assert set(counts) == {1, 3}
    assert 70 < counts.count(3) < 130


def test_one_object_a_clip_is_drawn_as_ever(config: SampleConfig) -> None:
    """A step of one object is the same clip, whether other steps have more or not."""
    several = replace(config, objects=(0.5, 0.5))
    step = next(step for step in STEPS if several.objects_of(step) == 1)
    assert (draw_sample(several, step, 0).frames == draw_sample(config, step, 0).frames).all()


@pytest.mark.parametrize("objects", [(), (-1.0, 2.0), (0.0, 0.0), (1.0,) * 9])
def test_impossible_shares_of_objects_are_refused(
    config: SampleConfig, objects: tuple[float, ...]
) -> None:
    with pytest.raises(DataError, match="objects"):
        replace(config, objects=objects)


def test_a_share_of_the_clips_is_dark(config: SampleConfig) -> None:
    samples = draw(replace(config, dark_share=1.0), synthetic_share=0.5)
    bright = draw(config, synthetic_share=0.5)
    assert all("dark" in sample.traits for sample in samples)
    for dark, light in zip(samples, bright, strict=True):
        assert dark.frames.mean() < 0.5 * light.frames.mean()
        assert (dark.masks == light.masks).all()


def test_a_clip_says_what_was_drawn_to_make_it(config: SampleConfig) -> None:
    samples = draw(config, synthetic_share=1.0)
    scenes = {"whole picture", "in place", "pasted"}
    assert all(len(scenes & set(sample.traits)) == 1 for sample in samples)


@pytest.mark.parametrize("field", ["crop", "frames", "batch", "max_frame_step"])
def test_an_impossible_number_is_refused(config: SampleConfig, field: str) -> None:
    change: dict[str, Any] = {field: 0}
    with pytest.raises(DataError, match=field):
        replace(config, **change)


def test_a_batch_stacks_the_clips_of_its_step(config: SampleConfig) -> None:
    batch = make_batch(config, 7)
    assert batch.frames.shape == (3, 4, 64, 64, 3)
    assert batch.masks.shape == (3, 4, 64, 64)
    assert (batch.frames[2] == draw_sample(config, 7, 2).frames).all()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_of_any_number_of_workers_are_those_of_their_steps(
    config: SampleConfig, workers: int
) -> None:
    batches = list(islice(yield_batches(config, first_step=7, workers=workers), 3))
    for step, batch in enumerate(batches, start=7):
        expected = make_batch(config, step)
        assert batch.sources == expected.sources
        assert (batch.frames == expected.frames).all()
        assert (batch.masks == expected.masks).all()


def test_a_broken_picture_is_named_by_a_worker_too(config: SampleConfig, tmp_path: Path) -> None:
    shutil.copytree(config.data, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "static" / "coco").glob("*.jpg"):
        path.write_bytes(b"no picture")
    broken = replace(config, data=tmp_path, synthetic_share=1.0, static_sets=("coco",))
    batches = yield_batches(broken, first_step=0, workers=1)
    with pytest.raises(DataError, match=r"cannot read the picture .*coco"):
        next(batches)
