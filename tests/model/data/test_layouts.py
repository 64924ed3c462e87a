"""Published data sets are read as their authors lay them out; what is missing is named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.errors import DataError
from model.data.layouts import StillSet, VideoSet
from model.data.samples import SampleConfig, make_batch
from tests.model.data import layouts
from tests.model.data.layouts import LENGTH


def stems(paths: tuple[Path, ...]) -> list[str]:
    return [path.stem for path in paths]


def test_davis_2017_counts_every_object(tmp_path: Path) -> None:
    layouts.write_davis_2017(tmp_path)
    (video,) = VideoSet("davis2017", tmp_path, "val").open()
    assert (video.name, video.united, len(video.frames)) == ("bike", False, LENGTH)


def test_davis_2016_unites_the_objects(tmp_path: Path) -> None:
    layouts.write_davis_2016(tmp_path / "a")
    layouts.write_davis_2017(tmp_path / "b")
    for folder in ("a", "b"):  # its own package, and that of 2017
        (video,) = VideoSet("davis2016", tmp_path / folder, "val").open()
        assert (video.name, video.united, len(video.masks)) == ("bike", True, LENGTH)


def test_youtube_vos_has_masks_for_some_frames_only(tmp_path: Path) -> None:
    layouts.write_youtube_vos(tmp_path)
    (video,) = VideoSet("youtube-vos", tmp_path, "val").open()
    assert stems(video.frames) == ["00000", "00002", "00004"]
    assert len(video.every) == LENGTH
    assert (video.late, video.instances) == (True, True)


def test_vost_names_its_files_frame(tmp_path: Path) -> None:
    layouts.write_vost(tmp_path)
    (video,) = VideoSet("vost", tmp_path, "val").open()
    assert stems(video.frames)[1] == "frame00001"
    assert (video.rate, video.instances) == (5.0, True)


def test_visor_marks_unseen_kitchens(tmp_path: Path) -> None:
    layouts.write_visor(tmp_path)
    videos = VideoSet("visor", tmp_path, "val").open()
    assert [video.tags for video in videos] == [("seen",), ("unseen",)]


def test_voc_has_no_object_on_its_outlines(tmp_path: Path) -> None:
    layouts.write_voc(tmp_path)
    (still,) = StillSet("voc", tmp_path).open()
    assert np.unique(still.read().labels).tolist() == [0, 1, 2]


@pytest.mark.parametrize("layout", ["ecssd", "msra10k"])
def test_salient_objects_are_one(layout: str, tmp_path: Path) -> None:
    getattr(layouts, f"write_{layout}")(tmp_path)
    (still,) = StillSet(layout, tmp_path).open()  # type: ignore[arg-type]
    assert np.unique(still.read().labels).tolist() == [0, 1]


def test_coco_draws_small_instances_over_large_ones(tmp_path: Path) -> None:
    layouts.write_coco(tmp_path)
    (still,) = StillSet("coco", tmp_path).open()
    labels = still.read().labels
    assert (labels[25, 25], labels[15, 15], labels[60, 60]) == (2, 1, 0)
    assert (labels == 2).sum() == 100


def test_training_follows_one_object_of_a_published_set(tmp_path: Path) -> None:
    layouts.write_vost(tmp_path)
    sets = (VideoSet("vost", tmp_path, "val"),)
    config = SampleConfig(
        data=tmp_path, seed=0, crop=64, frames=3, batch=4, synthetic_share=0, video_sets=sets
    )
    batch = make_batch(config, 0)
    assert set(batch.sources) == {"video/1_cut"}
    assert np.unique(batch.masks).tolist() == [0, 1]


def test_training_draws_from_published_pictures(tmp_path: Path) -> None:
    layouts.write_coco(tmp_path)
    layouts.write_ecssd(tmp_path)
    sets = (StillSet("coco", tmp_path, weight=0.5), StillSet("ecssd", tmp_path, weight=0.5))
    config = SampleConfig(
        data=tmp_path, seed=0, crop=64, frames=2, batch=2, synthetic_share=1, still_sets=sets
    )
    assert make_batch(config, 0).frames.shape == (2, 2, 64, 64, 3)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    for layout in ("davis2016", "davis2017", "youtube-vos", "vost", "visor"):
        with pytest.raises(DataError, match=r"cannot read the list .*(val\.txt|meta\.json)"):
            VideoSet(layout, tmp_path, "val").open()


def test_a_list_that_is_none_is_named(tmp_path: Path) -> None:
    layouts.write_youtube_vos(tmp_path)
    (tmp_path / "val/meta.json").write_text('{"videos": 3}')
    with pytest.raises(DataError, match=r"meta\.json is no list"):
        VideoSet("youtube-vos", tmp_path, "val").open()


def test_an_empty_list_is_an_empty_data_set(tmp_path: Path) -> None:
    layouts.write_list(tmp_path / "ImageSets/val.txt")
    with pytest.raises(DataError, match="is empty"):
        VideoSet("vost", tmp_path, "val").open()


def test_a_mask_without_a_frame_is_named(tmp_path: Path) -> None:
    layouts.write_vost(tmp_path)
    (tmp_path / "JPEGImages/1_cut/frame00002.jpg").unlink()
    with pytest.raises(DataError, match=r"frame00002\.png has no frame"):
        VideoSet("vost", tmp_path, "val").open()


def test_a_video_without_masks_is_named(tmp_path: Path) -> None:
    layouts.write_vost(tmp_path)
    for path in (tmp_path / "Annotations/1_cut").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no masks .* in .*1_cut"):
        VideoSet("vost", tmp_path, "val").open()


def test_a_picture_without_a_mask_is_named(tmp_path: Path) -> None:
    layouts.write_ecssd(tmp_path)
    (tmp_path / "ground_truth_mask/0001.png").unlink()
    with pytest.raises(DataError, match=r"0001\.jpg has no mask"):
        StillSet("ecssd", tmp_path).open()


def test_a_listed_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    layouts.write_voc(tmp_path)
    (tmp_path / "JPEGImages/2007_1.jpg").unlink()
    with pytest.raises(DataError, match=r"2007_1\.jpg is listed but missing"):
        StillSet("voc", tmp_path).open()


def test_a_broken_list_of_instances_is_named(tmp_path: Path) -> None:
    layouts.write_list(tmp_path / "annotations/instances_train2017.json", '{"images": []}')
    with pytest.raises(DataError, match=r"instances_train2017\.json is no COCO file"):
        StillSet("coco", tmp_path).open()


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    layouts.write_coco(tmp_path)
    (tmp_path / "train2017/000000000009.jpg").write_bytes(b"no picture")
    (still,) = StillSet("coco", tmp_path).open()
    with pytest.raises(DataError, match=r"000000000009\.jpg"):
        still.read()


def test_extra_videos_are_read_with_their_instances(data: Path) -> None:
    videos = {video.name: video for video in VideoSet("extra", data / "extra").open()}
    assert set(videos) == {"davis2017-school", "davis2017_instances-walk", "ucsd-boats"}
    assert not any(video.united for video in videos.values())
    assert videos["ucsd-boats"].weight < videos["davis2017-school"].weight == 1
    walk = videos["davis2017_instances-walk"]
    assert walk.frames[0] == data / "video" / "walk" / "frames" / "00000.jpg"


def test_held_out_videos_are_a_split_of_their_own(data: Path) -> None:
    (video,) = VideoSet("extra", data / "extra", "held-out").open()
    assert video.name == "davis2017-snowboard"


def test_an_extra_video_without_frames_is_named(tmp_path: Path) -> None:
    (tmp_path / "extra" / "ucsd" / "gone" / "masks").mkdir(parents=True)
    with pytest.raises(DataError, match="ucsd/gone/frames"):
        VideoSet("extra", tmp_path / "extra").open()


def test_frames_of_any_kind_are_read_and_hidden_files_are_none(tmp_path: Path) -> None:
    layouts.write_davis_2017(tmp_path)
    images, masks = (tmp_path / name / "480p/bike" for name in ("JPEGImages", "Annotations"))
    Image.open(images / "00003.jpg").save(images / "00003.bmp")
    (images / "00003.jpg").unlink()
    for hidden in (images / "._00000.jpg", masks / "._00000.png"):
        hidden.write_bytes(b"of a Mac")
    (video,) = VideoSet("davis2017", tmp_path, "val").open()
    assert stems(video.frames) == [f"{number:05d}" for number in range(LENGTH)]
    assert video.frames[3].suffix == ".bmp"
