"""Other tools' files around a tracking job: what it begins with, and what it leaves."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.core.encoding import decode_rle
from model.core.image_headers import ImageLimits
from model.core.masks import MaskError
from model.core.palette import read_label_map, write_label_map
from service.commands import convert
from service.commands.track_job.export import export_formats, read_prompt
from service.commands.track_job.results import COLUMNS, TrackResults
from service.media.video import Source, open_source
from tests.support import scene

LIMITS = ImageLimits()
FRAMES = 4


@pytest.fixture(params=["folder", "video"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "video":
        (tmp_path / "walk.mp4").write_bytes(scene.video(range(FRAMES)))
        return open_source(tmp_path / "walk.mp4")
    (tmp_path / "walk").mkdir()
    for number in range(FRAMES):
        (tmp_path / "walk" / f"shot_{number}.png").write_bytes(scene.png(number))
    return open_source(tmp_path / "walk")


def tracked(source: Source, out: Path, *, first: int = 1) -> TrackResults:
    """Return the results of a job from frame `first` on, in which object 1 is lost at the end."""
    results = TrackResults(out)
    results.masks.mkdir(parents=True)
    rows = [",".join(COLUMNS)]
    for number in range(first, FRAMES):
        stem = source.stem_of(number)
        results.name_mask_file(stem).write_bytes(write_label_map(scene.labels(number)))
        rows.append(f"{stem},1,{'lost' if number == FRAMES - 1 else 'visible'},0.5")
    results.states.write_text("\n".join(rows) + "\n")
    return results


def test_names_numbers_times_and_states_are_those_of_the_source(
    source: Source, tmp_path: Path
) -> None:
    results = tracked(source, tmp_path / "out")
    assert len(list(export_formats(["coco", "cutouts"], results, source, LIMITS))) == 2
    coco = json.loads((tmp_path / "out" / "coco" / "walk.json").read_bytes())
    assert [image["file_name"] for image in coco["images"]] == [
        source.name_image(number) for number in range(1, FRAMES)
    ]
    assert [image["video_frame"] for image in coco["images"]] == [1, 2, 3]
    times = [image["timestamp"] for image in coco["images"]]
    assert times == pytest.approx([1 / 24, 2 / 24, 3 / 24], abs=1e-3)
    assert [each["state"] for each in coco["annotations"]] == ["visible", "visible", "lost"]
    for number, each in zip((1, 2, 3), coco["annotations"], strict=True):
        assert (decode_rle(each["segmentation"]) == (scene.labels(number) == 1)).all()
    file = tmp_path / "out" / "cutouts" / f"{source.stem_of(2)}.png"
    with Image.open(io.BytesIO(file.read_bytes())) as image:
        pixels = np.asarray(image)
    assert ((pixels[..., 3] > 0) == (scene.labels(2) == 1)).all()
    assert np.abs(pixels[pixels[..., 3] > 0].mean(axis=0)[:3] - scene.SQUARE).max() < 12


def test_a_job_begins_with_the_annotations_of_its_frame(source: Source, tmp_path: Path) -> None:
    results = tracked(source, tmp_path / "out")
    assert list(export_formats(["coco", "cvat", "mots"], results, source, LIMITS))
    for file in ("coco/walk.json", "cvat/annotations.xml", "mots/instances_txt/walk.txt"):
        png = read_prompt(tmp_path / "out" / file, source, 2, LIMITS)
        assert (read_label_map(png, LIMITS) == scene.labels(2)).all()
    with pytest.raises(MaskError, match=r"walk\.json has no mask of .*0"):
        read_prompt(tmp_path / "out" / "coco" / "walk.json", source, 0, LIMITS)


def test_convert_takes_the_folder_of_a_job(source: Source, tmp_path: Path) -> None:
    tracked(source, tmp_path / "out")
    assert convert.run(tmp_path / "out", format="cvat", out=tmp_path / "cvat") == 0
    assert (tmp_path / "cvat" / "annotations.xml").read_text().count("<mask ") == FRAMES - 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing", "there is no file or folder 'missing'"),
        ("README.md", "README.md is of no format"),
    ],
)
def test_convert_says_what_it_cannot_read(
    name: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert.run(Path(name), format="coco", out=tmp_path / "out") == 1
    assert told in capsys.readouterr().err
