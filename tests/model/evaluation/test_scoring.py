"""Scores follow the rules of the benchmarks, by object, whoever made the masks."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.__main__ import main
from model.core.palette import write_label_map
from model.data.errors import DataError
from model.data.layouts import VideoSet
from model.data.video import Video
from model.evaluation.runtime import GraphRuntime
from model.evaluation.scoring import (
    RULES,
    predict,
    read_predictions,
    read_truth,
    score,
    write_labels,
)
from model.training.checkpoints import locked
from tests.model.data import layouts
from tests.support import scene
from tests.support.toy_model import write_toy_model

LENGTH = 9


def write_scene(root: Path, *, name: str = "walk", objects: int = 2, length: int = LENGTH) -> None:
    """The made-up video that the toy model follows, laid out as VOST."""
    for folder in ("JPEGImages", "Annotations"):
        (root / folder / name).mkdir(parents=True)
    for number in range(length):
        image = scene.encode(scene.picture(number, objects=objects), ".jpg")
        (root / "JPEGImages" / name / f"frame{number:05d}.jpg").write_bytes(image)
        labels = scene.labels(number, objects=objects)
        (root / "Annotations" / name / f"frame{number:05d}.png").write_bytes(
            write_label_map(labels)
        )
    layouts.write_list(root / "ImageSets/val.txt", name)


@pytest.fixture
def video(tmp_path: Path) -> Video:
    write_scene(tmp_path / "vost")
    return VideoSet("vost", tmp_path / "vost", "val").open()[0]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    write_toy_model(folder)
    return folder


def maps(*rows: list[int]) -> dict[str, NDArray[np.uint8]]:
    """Label maps of one row each, named 0, 1, ..."""
    return {str(index): np.array([row], np.uint8) for index, row in enumerate(rows)}


PAIR = Video("pair", (Path("0.jpg"),) * 5, (), united=False, instances=True, rate=5.0)


def test_each_object_is_scored_without_the_first_and_the_last_frame() -> None:
    truth = maps(*[[1, 1, 2, 0]] * 5)
    labels = maps([0] * 4, [1, 1, 2, 0], [1, 0, 2, 0], [1, 1, 0, 0], [0] * 4)
    first, second = score(PAIR, truth, labels)
    assert first.scores.j_frames == (1.0, 0.5, 1.0)
    assert second.scores.j_frames == (1.0, 1.0, 0.0)
    assert (first.frames, second.scores.j_tr) == (("1", "2", "3"), 0.0)


def test_objects_are_counted_as_vost_counts() -> None:
    """As many as the largest id of frame 0: more labels are cut, missing objects are empty."""
    truth = maps(*[[0, 2, 2, 0]] * 4)
    labels = maps(*[[3, 2, 2, 3]] * 4)
    scores = score(PAIR, truth, labels)
    assert [(each.object_id, each.scores.j.mean) for each in scores] == [(1, 1.0), (2, 1.0)]


def test_a_late_object_counts_from_the_frame_after_its_mask() -> None:
    truth = maps([1, 0], [1, 2], [1, 2], [1, 2], [1, 2])
    labels = maps([0, 0], [0, 0], [1, 2], [1, 0], [0, 0])
    first, second = score(replace(PAIR, late=True), truth, labels)
    assert first.scores.j_frames == (0.0, 1.0, 1.0)
    assert second.scores.j_frames == (1.0, 0.0)


def test_the_last_frame_counts_for_visor() -> None:
    truth = maps(*[[1, 1, 0]] * 4)
    labels = maps([0] * 3, [1, 1, 0], [1, 1, 0], [1, 0, 0])
    (only,) = score(PAIR, truth, labels, RULES["visor"])
    assert (only.frames, only.scores.j_frames) == (("1", "2", "3"), (1.0, 1.0, 0.5))
    (short,) = score(PAIR, maps([1], [1]), maps([0], [1]), RULES["visor"])
    assert short.frames == ("1",)
    assert score(PAIR, maps([1], [1]), maps([0], [1])) == []


def test_recall_and_decay_of_an_object_by_hand() -> None:
    """J of nine frames: 1, 1, 1, 3/4, 3/4, 1/2, 1/2, 1/4, 1/4; the quarters overlap by one."""
    kept = [4, 4, 4, 4, 3, 3, 2, 2, 1, 1, 4]
    labels = maps(*[[1] * count + [0] * (4 - count) for count in kept])
    (only,) = score(PAIR, maps(*[[1] * 4] * 11), labels)
    assert only.scores.j_frames == (1, 1, 1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25)
    assert only.scores.j.mean == pytest.approx(6 / 9)
    assert only.scores.j.recall == pytest.approx(5 / 9)
    assert only.scores.j.decay == pytest.approx(1 - 1 / 3)  # frames 0 to 2 less frames 6 to 8
    assert only.scores.j_tr == pytest.approx(1 / 3)  # from frame floor(0.75 * 9) = 6


def test_united_objects_are_one() -> None:
    truth, labels = maps(*[[1, 1, 0]] * 4), maps(*[[2, 1, 0]] * 4)
    (only,) = score(replace(PAIR, united=True), truth, labels)
    assert only.scores.j.mean == 1.0


def test_subsets_are_those_of_vost() -> None:
    truth = {str(i): np.zeros((20, 20), np.uint8) for i in range(4)}
    for labels in truth.values():
        labels[0, 0], labels[5:15] = 1, 2
    long = replace(PAIR, frames=(Path("0.jpg"),) * 101, tags=("unseen",))
    small, large = score(long, truth, truth)
    assert small.subsets == ("LNG", "MI", "SM", "0-0.5%", "unseen")
    assert large.subsets == ("LNG", "MI", "unseen")


@pytest.mark.parametrize(
    ("pixels", "band"),
    [(19, "0-0.5%"), (20, "0.5-1%"), (40, "1-2%"), (199, "2-5%"), (200, None)],
)
def test_small_objects_are_in_a_band_of_their_mean_area(pixels: int, band: str | None) -> None:
    """Of frames of 4000 pixels: 20 are half a percent, 200 are five; two frames differ by 10."""
    truth = {str(i): np.zeros((40, 100), np.uint8) for i in range(4)}
    for labels, more in zip(truth.values(), (0, 10, -10, 0), strict=True):
        labels.flat[: pixels + more] = 1
    (only,) = score(replace(PAIR, instances=False), truth, truth)
    assert only.area == pytest.approx(pixels / 4000)
    assert set(only.subsets) - {"SM"} == {band} - {None}


def test_ignored_pixels_are_background(tmp_path: Path) -> None:
    layouts.write_vost(tmp_path)
    (video,) = VideoSet("vost", tmp_path, "val").open()
    assert np.unique(list(read_truth(video).values())).tolist() == [0, 1, 2]


def test_masks_of_0_and_255_are_one_object(tmp_path: Path) -> None:
    write_scene(tmp_path, objects=1)
    (video,) = VideoSet("vost", tmp_path, "val").open()
    expected = read_truth(video)
    for path in video.masks:
        Image.fromarray(expected[path.stem] * np.uint8(255)).save(path)
    truth = read_truth(video)
    assert all((truth[stem] == expected[stem]).all() for stem in expected)
    write_labels(tmp_path / "predictions" / video.name, expected)
    (only,) = score(video, truth, read_predictions(tmp_path / "predictions", video, truth))
    assert (only.object_id, only.scores.j.mean, only.scores.f.mean) == (1, 1.0, 1.0)


def test_the_toy_model_follows_both_objects(video: Video, toy: Path) -> None:
    truth = read_truth(video)
    labels = predict(GraphRuntime(toy, "toy", threads=1), video, truth)
    assert [each.scores.j.mean > 0.95 for each in score(video, truth, labels)] == [True, True]
    assert (labels["frame00000"] == truth["frame00000"]).all()


def test_an_object_that_comes_later_is_followed_from_there(video: Video, toy: Path) -> None:
    truth = read_truth(video)
    for stem in list(truth)[:4]:
        truth[stem] = np.where(truth[stem] == 1, truth[stem], np.uint8(0))
    late = replace(video, late=True)
    labels = predict(GraphRuntime(toy, "toy", threads=1), late, truth)
    first, second = score(late, truth, labels)
    assert len(second.frames) == LENGTH - 4 - 2
    assert min(first.scores.j.mean, second.scores.j.mean) > 0.95


def test_written_label_maps_are_read_back(video: Video, tmp_path: Path) -> None:
    truth = read_truth(video)
    for folder in ("a/walk", "b/masks/walk", "c/walk/masks", "d"):  # d is for one video alone
        write_labels(tmp_path / folder, truth)
        found = read_predictions(tmp_path / folder[0], video, truth, alone=folder == "d")
        assert all((labels == truth[stem]).all() for stem, labels in found.items())


def test_a_missing_prediction_is_named(video: Video, tmp_path: Path) -> None:
    truth = read_truth(video)
    with pytest.raises(DataError, match="no predictions"):
        read_predictions(tmp_path / "none", video, truth)
    write_labels(tmp_path / "some", truth)
    (tmp_path / "some" / "frame00003.png").unlink()
    with pytest.raises(DataError, match=r"frame00003\.png is missing"):
        read_predictions(tmp_path / "some", video, truth, alone=True)
    with pytest.raises(DataError, match="no predictions"):  # they may be those of another video
        read_predictions(tmp_path / "some", video, truth)


def test_a_broken_prediction_is_named(video: Video, tmp_path: Path) -> None:
    truth = read_truth(video)
    write_labels(tmp_path / "p", truth)
    (tmp_path / "p" / "frame00003.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"frame00003\.png is no label map"):
        read_predictions(tmp_path / "p", video, truth, alone=True)
    small = write_label_map(np.zeros((4, 4), np.uint8))
    (tmp_path / "p" / "frame00003.png").write_bytes(small)
    with pytest.raises(DataError, match=r"frame00003\.png is \(4, 4\)"):
        read_predictions(tmp_path / "p", video, truth, alone=True)


def test_ids_that_no_object_has_are_refused_but_where_vost_cuts_them(
    video: Video, tmp_path: Path
) -> None:
    truth = read_truth(video)
    strange = {stem: np.where(labels == 2, np.uint8(7), labels) for stem, labels in truth.items()}
    write_labels(tmp_path / "p", strange)
    with pytest.raises(DataError, match=r"frame00001\.png has the object ids \[7\].* has \[1, 2\]"):
        read_predictions(tmp_path / "p", video, truth, alone=True)
    found = read_predictions(tmp_path / "p", video, truth, alone=True, rules=RULES["vost"])
    assert [each.scores.j.mean for each in score(video, truth, found)] == [1.0, 0.0]


def test_the_last_prediction_is_wanted_where_it_counts(video: Video, tmp_path: Path) -> None:
    truth = read_truth(video)
    write_labels(tmp_path / "p", dict(list(truth.items())[1:-1]))
    assert len(read_predictions(tmp_path / "p", video, truth, alone=True)) == LENGTH - 2
    with pytest.raises(DataError, match=r"frame00008\.png is missing"):
        read_predictions(tmp_path / "p", video, truth, alone=True, rules=RULES["visor"])


def test_a_mask_of_another_size_than_its_frame_is_named(video: Video) -> None:
    video.masks[4].write_bytes(write_label_map(np.ones((4, 4), np.uint8)))
    with pytest.raises(DataError, match=r"frame00004\.png is \(4, 4\), its frame is \(96, 128\)"):
        read_truth(video)


def test_what_is_missed_and_what_is_wrong_show_in_their_third(video: Video) -> None:
    truth = read_truth(video)
    labels = dict(truth)
    stems = list(truth)
    for stem in stems[-3:]:  # of the last third; the last frame does not count
        labels[stem] = np.where(truth[stem] == 2, np.uint8(1), truth[stem])
    one, two = score(video, truth, labels)
    assert one.errors.missed == (0, 0, 0)
    assert one.errors.wrong[:2] == (0, 0)
    assert one.errors.wrong[2] > 0.1
    assert two.errors.missed == (0, 0, 1)
    assert two.errors.wrong == (0, 0, 0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_command_writes_tables_masks_and_a_report(
    tmp_path: Path, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / "vost")
    where = ["--dataset", "vost", "--root", str(tmp_path / "vost"), "--split", "val"]
    out = tmp_path / "out"
    words = ["evaluate", "toy", "--graphs", str(toy), *where, "--threads", "1", "-o", str(out)]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "on 2 objects of 1 videos" in first
    assert [row["object"] for row in rows(out / "objects.csv")] == ["1", "2"]
    assert [row["subset"] for row in rows(out / "subsets.csv")] == ["MI"]
    assert "missed, in thirds | wrong, in thirds" in first
    assert {"missed_1", "wrong_3"} <= rows(out / "videos.csv")[0].keys()
    assert len(rows(out / "frames.csv")) == 2 * (LENGTH - 2)
    report = (out / "report.html").read_text()
    assert "<svg" in report
    assert "data:image/png;base64" in report
    assert main(["evaluate", "--predictions", str(out), *where]) == 0
    again = capsys.readouterr().out
    assert again.splitlines()[-1] == first.splitlines()[-1]


def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "gone", "--graphs", str(tmp_path), "--root", str(tmp_path)]) == 2
    assert main(["evaluate", "--predictions", str(tmp_path), "--root", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "dev.txt" in told


def test_graphs_that_are_cut_short_are_told(
    tmp_path: Path, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / "vost")
    where = ["--dataset", "vost", "--root", str(tmp_path / "vost"), "--split", "val"]
    assert main(["evaluate", "toy", "--graphs", str(toy), *where, "--memory-size", "99"]) == 2
    assert "the memory has room for 16 entries, not 99" in capsys.readouterr().err
    broken = tmp_path / "graphs"
    shutil.copytree(toy, broken)
    graph = broken / "toy_segment.onnx"
    graph.write_bytes(graph.read_bytes()[:500])
    assert main(["evaluate", "toy", "--graphs", str(broken), *where]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tamvt-model evaluate: the graphs of toy cannot be opened: ")
    assert len(told.splitlines()) == 1


def test_scores_are_not_written_where_another_process_writes(
    tmp_path: Path, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / "vost")
    where = ["--dataset", "vost", "--root", str(tmp_path / "vost"), "--split", "val"]
    out = tmp_path / "out"
    with locked(out):
        assert main(["evaluate", "toy", "--graphs", str(toy), *where, "-o", str(out)]) == 2
    assert "is writing into" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["lock"]
