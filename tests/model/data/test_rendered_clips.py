"""Rendered clips on disk: written whole, gone on with, read as any video, drawn by weight."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.__main__ import main
from model.commands.train import TrainArguments, configure
from model.core.palette import read_label_map
from model.data.errors import DataError
from model.data.layouts import VideoSet
from model.data.rendered.clips import RECORD, RenderConfig, shows_bodies
from model.data.samples import SampleConfig, draw_sample
from model.data.static import ANY_SIZE, read_rgb
from model.training.distributed import Distributed
from model.training.recipes import smoke

WORDS = ["data", "render", "--size", "64x96", "--frames", "5", "--seed", "3", "--data"]


def render(folder: Path, data: Path, *words: str) -> int:
    return main([*WORDS, str(data), "-o", str(folder), *words])


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def clips(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three small rendered clips."""
    folder = tmp_path_factory.mktemp("rendered")
    assert render(folder, data, "--clips", "3") == 0
    return folder


def test_a_clip_is_a_video_with_a_mask_for_each_frame(clips: Path) -> None:
    assert sorted(path.name for path in clips.iterdir()) == [
        *(f"3-0000{i}" for i in range(3)),
        RECORD,
    ]
    for video in VideoSet("rendered", clips).open():
        assert (len(video.frames), video.united) == (5, False)
        assert read_rgb(video.frames[0]).shape == (64, 96, 3)
        labels = read_label_map(video.masks[0].read_bytes(), ANY_SIZE)
        assert labels.shape == (64, 96)
        assert len(set(labels.flat) - {0}) >= 2


def test_a_clip_that_is_not_whole_is_not_read(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "3-00000").symlink_to(clips / "3-00000")
    (tmp_path / ".3-00001" / "masks").mkdir(parents=True)
    assert [video.name for video in VideoSet("rendered", tmp_path).open()] == ["3-00000"]


def test_what_is_missing_is_made_again_byte_for_byte(
    clips: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = read_files(clips)
    assert render(tmp_path, data, "--clips", "1") == 0
    (tmp_path / ".3-00001" / "masks").mkdir(parents=True)  # what a run that was killed leaves
    (tmp_path / ".3-00001" / "masks" / "00000.png").touch()
    assert render(tmp_path, data, "--clips", "3") == 0
    assert "3 clips" in (said := capsys.readouterr().out)
    assert "2 made now" in said
    assert "frames/s" in said
    assert read_files(tmp_path) == made


def test_a_folder_keeps_to_one_kind_of_clips(
    clips: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(clips, data, "--clips", "1", "--frames", "6") == 2
    assert "were made with frames 5" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert render(tmp_path / "file", data, "--clips", "1") == 2
    assert f"cannot write into {tmp_path / 'file'}" in capsys.readouterr().err


def test_a_size_that_shows_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="16x16"):
        RenderConfig(seed=1, height=8)


def test_samples_are_drawn_from_rendered_clips_by_weight(config: SampleConfig, clips: Path) -> None:
    mixed = replace(config, synthetic_share=0.0, rendered=clips, rendered_weight=3.0)
    sources = [draw_sample(mixed, step, 0).source for step in range(40)]
    share = sum(source.startswith("video/3-") for source in sources) / len(sources)
    assert share == pytest.approx(0.75, abs=0.2)
    off = replace(mixed, rendered_weight=0.0)
    assert not any(draw_sample(off, step, 0).source.startswith("video/3-") for step in range(10))


def test_several_rendered_objects_are_followed(config: SampleConfig, clips: Path) -> None:
    only = replace(
        config,
        crop=48,
        synthetic_share=0.0,
        pasted_share=0.0,
        objects=(0.0, 0.0, 1.0),
        rendered=clips,
        rendered_weight=1e9,
    )
    assert max(draw_sample(only, step, 0).masks.max() for step in range(6)) >= 2


def test_clips_that_are_not_there_are_named(config: SampleConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no rendered clips in {tmp_path}"):
        draw_sample(replace(config, rendered=tmp_path, rendered_weight=1.0), 0, 0)
    with pytest.raises(DataError, match="needs a folder"):
        replace(config, rendered_weight=1.0)


def test_training_takes_them_where_it_is_told_to(data: Path, tmp_path: Path) -> None:
    args = TrainArguments(output=tmp_path, data=data)
    alone = Distributed.from_environment()
    assert configure("smoke", args, alone).samples.rendered_weight == 0.0
    told = configure("smoke", replace(args, rendered=tmp_path, rendered_weight=0.3), alone)
    assert (told.samples.rendered, told.samples.rendered_weight) == (tmp_path, 0.3)
    settings = told.settings(processes=1)
    assert settings["clips.rendered_weight"] == 0.3
    assert settings != smoke(data).settings(processes=1)
    assert not any("tmp" in str(value) for value in settings.values())


def test_a_scene_that_shows_too_little_is_drawn_again() -> None:
    labels = np.zeros((2, 50, 50), np.uint8)
    labels[:, :20, :20], labels[:, 30:, 30:] = 1, 2
    assert shows_bodies(labels)
    labels[1][labels[1] == 2] = 0
    assert not shows_bodies(labels)
    labels[:] = 1
    assert not shows_bodies(labels)
