"""Each format as its own tools read it, and back where it is read here."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from model.core.image_headers import ImageLimits
from model.core.masks import MaskError
from service.errors import BadOption
from service.media.formats import label_studio
from service.media.formats.annotated import AnnotatedFrame, AnnotatedObject, AnnotatedVideo
from service.media.formats.registry import (
    FORMATS,
    FormatName,
    read_annotations,
    write_folder,
    write_zip,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools
HEIGHT, WIDTH = 40, 50
LIMITS = ImageLimits()
Found = dict[tuple[int, int], NDArray[np.bool_]]


def ring_and_dot(shift: int) -> NDArray[np.bool_]:
    """Return a mask with a hole and a part of its own, at the frame's edge."""
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[2:20, shift : shift + 18] = True
    mask[8:12, shift + 6 : shift + 10] = False
    mask[37:, 45:] = True
    return mask


def block(shift: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[24:30, 10 + shift : 20 + shift] = True
    return mask


def frame(number: int, objects: Iterable[AnnotatedObject], *, image: str = "") -> AnnotatedFrame:
    picture = np.full((HEIGHT, WIDTH, 3), (200, 100, 50), np.uint8)
    image = image or f"shot {number}.jpg"
    size = (HEIGHT, WIDTH)
    return AnnotatedFrame(number, image, size, tuple(objects), number / 30, lambda: picture)


VIDEO = AnnotatedVideo(
    "walk & run",
    {3: "cup", 7: 'a "dog"'},
    [
        frame(4, [AnnotatedObject(3, ring_and_dot(0)), AnnotatedObject(7, block(0))]),
        frame(
            5, [AnnotatedObject(3, ring_and_dot(3), 0.75, "visible"), AnnotatedObject(7, block(2))]
        ),
        frame(6, [AnnotatedObject(3, ring_and_dot(6), 0.25, "lost")]),
    ],
    count=9,
    fps=30.0,
)


def masks(video: AnnotatedVideo) -> Found:
    return {
        (each.number, mask.object_id): mask.mask
        for each in video.frames
        for mask in each.objects
        if mask.area
    }


def files(name: FormatName) -> dict[str, bytes]:
    return dict(FORMATS[name].files(VIDEO))


def assert_same(found: Found, expected: Found) -> None:
    assert found.keys() == expected.keys()
    assert all((found[key] == expected[key]).all() for key in expected)


def test_pycocotools_reads_the_masks_of_coco(tmp_path: Path) -> None:
    (content,) = files("coco").values()
    (tmp_path / "coco.json").write_bytes(content)
    coco = COCO(tmp_path / "coco.json")
    found = {
        (each["image_id"], each["category_id"]): coco.annToMask(each).astype(np.bool_)
        for each in coco.loadAnns(coco.getAnnIds())
    }
    assert_same(found, masks(VIDEO))
    assert {each["name"] for each in coco.loadCats(coco.getCatIds())} == {"cup", 'a "dog"'}
    image = coco.loadImgs([5])[0]
    assert (image["file_name"], image["width"], image["height"]) == ("shot 5.jpg", WIDTH, HEIGHT)
    assert image["timestamp"] == pytest.approx(5 / 30, abs=1e-6)


def test_coco_video_has_an_annotation_for_each_object() -> None:
    (content,) = files("coco-video").values()
    document = json.loads(content)
    (video,) = document["videos"]
    assert (video["length"], video["frame_numbers"], video["fps"]) == (3, [4, 5, 6], 30.0)
    found = {
        (number, each["id"]): coco_masks.decode(rle).astype(np.bool_)
        for each in document["annotations"]
        for number, rle in zip(video["frame_numbers"], each["segmentations"], strict=True)
        if rle
    }
    assert_same(found, masks(VIDEO))
    lost = document["annotations"][1]
    assert [lost["bboxes"][2], lost["areas"][2], lost["segmentations"][2]] == [None] * 3


def test_davis_and_youtube_vos_have_the_names_of_the_pictures() -> None:
    assert list(files("davis")) == [f"walk & run/shot {n}.png" for n in (4, 5, 6)]
    found = files("youtube-vos")
    meta = json.loads(found.pop("meta.json"))
    assert list(found) == [f"Annotations/walk & run/shot {n}.png" for n in (4, 5, 6)]
    assert meta["videos"]["walk & run"]["objects"]["7"] == {
        "category": 'a "dog"',
        "frames": ["shot 4", "shot 5"],
    }
    with Image.open(io.BytesIO(files("davis")["walk & run/shot 4.png"])) as image:
        assert image.mode == "P"
        assert set(np.unique(np.asarray(image))) == {0, 3, 7}


def test_a_yolo_outline_fills_the_mask_with_its_hole_and_its_parts() -> None:
    lines = files("yolo")["labels/shot 5.txt"].decode().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    for line, mask in zip(lines, (ring_and_dot(3), block(2)), strict=True):
        points = np.array(line.split()[1:], np.float64).reshape(-1, 2) * (WIDTH, HEIGHT)
        filled = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillPoly(filled, [points.astype(np.int32)], 1)  # as Ultralytics does
        extra = filled.view(np.bool_) & ~mask
        assert (filled.view(np.bool_) | ~mask).all()
        # Seams are drawn one pixel wide by this filling, and no more than that is added.
        assert extra.sum() <= 40
    assert '0: "cup"' in files("yolo")["data.yaml"].decode()


def test_mots_gives_each_pixel_to_one_object() -> None:
    both = [AnnotatedObject(3, block(0)), AnnotatedObject(7, block(2))]
    video = AnnotatedVideo("two", {3: "a", 7: "b"}, [frame(0, both)], 1)
    ((path, content),) = FORMATS["mots"].files(video)
    assert path == "instances_txt/two.txt"
    total = np.zeros((HEIGHT, WIDTH), np.int64)
    for line in content.decode().splitlines():
        number, track, kind, height, width, rle = line.split()
        assert (number, kind, int(track) // 1000) == ("0", "1", 1)
        total += coco_masks.decode({"size": [int(height), int(width)], "counts": rle})
    assert total.max() == 1
    assert (total == (block(0) | block(2))).all()


def test_cvat_takes_every_mask_since_each_is_a_track_of_its_own() -> None:
    root = ElementTree.fromstring(files("cvat")["annotations.xml"])
    assert root.findtext("meta/task/size") == "9"
    assert [each.text for each in root.iterfind("meta//label/name")] == ["cup", 'a "dog"']
    found: Found = {}
    for track in root.iterfind("track"):
        (mask,) = track
        left, top, width, height = (int(mask.attrib[key]) for key in CVAT_BOX)
        runs = [int(run) for run in mask.attrib["rle"].split(",")]
        inside = [place % 2 for place, run in enumerate(runs) for _ in range(run)]
        whole = np.zeros((HEIGHT, WIDTH), np.bool_)
        whole[top : top + height, left : left + width] = np.reshape(inside, (height, width))
        found[int(mask.attrib["frame"]), int(track.attrib["group_id"])] = whole
    assert_same(found, masks(VIDEO))


OF_CVAT = """<annotations><version>1.1</version>
<meta><task><size>4</size>
<original_size><width>4</width><height>3</height></original_size></task></meta>
<track id="0" label="cup" source="manual"{group}>
<mask frame="0" keyframe="1" outside="0" occluded="0" rle="1, 3" left="1" top="0" width="2"
 height="2" z_order="0"></mask>
<mask frame="1" keyframe="1" outside="1" occluded="0" rle="1, 3" left="1" top="0" width="2"
 height="2" z_order="0"></mask>
</track></annotations>"""


def test_where_a_track_of_cvat_ends_there_is_no_mask(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(OF_CVAT.format(group=""))
    found = read_annotations(tmp_path / "a.xml", limits=LIMITS)
    ((key, mask),) = masks(found).items()
    assert key == (0, 1)
    assert mask.tolist() == [[False, False, True, False], [False, True, True, False], [False] * 4]
    assert found.count == 4


def test_a_group_of_cvat_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(OF_CVAT.format(group=' group_id="255"'))
    with pytest.raises(MaskError, match="groups beyond 1 to 254"):
        read_annotations(tmp_path / "a.xml", limits=LIMITS)
    (tmp_path / "a.xml").write_text(OF_CVAT.format(group=' group_id="254"'))
    assert read_annotations(tmp_path / "a.xml", limits=LIMITS).labels == {254: "cup"}


CVAT_BOX = ("left", "top", "width", "height")


def test_a_brush_is_what_the_sdk_of_label_studio_makes() -> None:
    small = np.zeros((5, 7), np.bool_)
    small[1:3, 2:4] = small[4, 6] = True
    # label_studio_sdk.converter.brush.mask2rle adds a byte of padding more.
    sdk = [0, 0, 0, 140, 57, 27, 254, 35, 0, 159, 255, 9, 128, 79, 255, 143, 192, 35, 255, 0]
    assert label_studio.encode_brush(small) == sdk[:-1]
    assert (label_studio.decode_brush(sdk, (5, 7)) == small).all()
    large = np.zeros((300, 400), np.bool_)
    large[20:250, 50:300] = True
    digest = hashlib.sha256(bytes(label_studio.encode_brush(large))).hexdigest()
    assert digest == "bdc745f3300c729b0fa02a6805a1667d69dc43d668a0f71d127d560a972d8e0c"


def test_a_box_in_label_studio_ends_where_the_object_is_lost_to_sight() -> None:
    (task,) = json.loads(files("label-studio")["video.json"])
    cup, dog = task["annotations"][0]["result"]
    assert cup["value"]["framesCount"] == 9
    assert [key["frame"] for key in cup["value"]["sequence"]] == [5, 6, 7]
    assert [key["enabled"] for key in dog["value"]["sequence"]] == [True, False]
    first = dog["value"]["sequence"][0]
    assert (first["x"], first["y"], first["width"], first["height"]) == (20, 60, 20, 15)


def test_a_cut_out_is_transparent_around_its_objects() -> None:
    with Image.open(io.BytesIO(files("cutouts")["shot 4.png"])) as image:
        pixels = np.asarray(image)
    seen = ring_and_dot(0) | block(0)
    assert ((pixels[..., 3] == 255) == seen).all()
    assert (pixels[seen] == (200, 100, 50, 255)).all()


@pytest.mark.parametrize(
    ("name", "path", "numbers", "ids"),
    [
        ("coco", "walk & run.json", (4, 5, 6), (3, 7)),
        ("coco-video", "walk & run.json", (4, 5, 6), (3, 7)),
        ("cvat", "annotations.xml", (4, 5, 6), (3, 7)),
        ("mots", "instances_txt/walk & run.txt", (4, 5, 6), (3, 7)),
        ("davis", "", (0, 1, 2), (3, 7)),
        ("youtube-vos", "", (0, 1, 2), (3, 7)),
        ("label-studio", "images.json", (0, 1, 2), (1, 2)),
    ],
)
def test_what_is_written_is_read_again(
    name: FormatName, path: str, numbers: tuple[int, ...], ids: tuple[int, int], tmp_path: Path
) -> None:
    write_folder(tmp_path, FORMATS[name].files(VIDEO))
    read = read_annotations(tmp_path / path, limits=LIMITS)
    renamed = {
        (numbers[number - 4], ids[(3, 7).index(key)]): mask
        for (number, key), mask in masks(VIDEO).items()
    }
    assert_same(masks(read), renamed)


def test_coco_keeps_names_times_and_states(tmp_path: Path) -> None:
    write_folder(tmp_path, FORMATS["coco"].files(VIDEO))
    read = read_annotations(tmp_path / "walk & run.json", limits=LIMITS)
    assert (read.name, read.labels, read.fps) == (VIDEO.name, VIDEO.labels, VIDEO.fps)
    assert read.count == VIDEO.count
    last = list(read.frames)[-1]
    assert (last.image, last.objects[0].state, last.objects[0].confidence) == (
        "shot 6.jpg",
        "lost",
        0.25,
    )


def test_two_frames_of_one_name_are_told() -> None:
    one, other = frame(0, [], image="a/x.jpg"), frame(1, [], image="b/x.png")
    video = AnnotatedVideo("twice", {}, [one, other], 2)
    with pytest.raises(BadOption, match=r"twice/x\.png"):
        list(FORMATS["davis"].files(video))


def test_a_zip_of_the_same_masks_is_the_same_file() -> None:
    packed = write_zip(FORMATS["youtube-vos"].files(VIDEO))
    assert packed == write_zip(FORMATS["youtube-vos"].files(VIDEO))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        assert "meta.json" in archive.namelist()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", "{}"),
        ("a.json", '{"images": [{"id": 1}], "annotations": []}'),
        ("a.json", '{"videos": [], "annotations": []}'),
        ("a.json", '[{"data": {"image": "a.jpg"}, "annotations": []}]'),
        ("a.json", "[1]"),
        ("a.xml", "<annotations>"),
        ("a.xml", "<annotations/>"),
        ("a.txt", "0 1001 1 40"),
        ("a.csv", ""),
    ],
)
def test_a_file_of_no_format_is_named(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MaskError, match=r"a\.(json|xml|txt|csv)|it tells no size"):
        list(read_annotations(tmp_path / name, limits=LIMITS).frames)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"videos": [{"id": 1}], "categories": []}', "'height' is missing"),
        ("a.json", '{"videos": [], "categories": []}', "a list is too short"),
        ("a.json", '[{"annotations": [{"result": [{}]}]}]', "'value' is missing"),
        ("a.json", "[1]", "a member is of another kind"),
        ("a.xml", OF_CVAT.format(group="").replace('left="1"', ""), "'left' is missing"),
    ],
)
def test_what_is_missing_in_a_file_is_said_in_words(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MaskError, match=said):
        read_annotations(tmp_path / name, limits=LIMITS)


def test_youtube_vos_tells_what_its_objects_are(tmp_path: Path) -> None:
    write_folder(tmp_path, FORMATS["youtube-vos"].files(VIDEO))
    assert read_annotations(tmp_path, limits=LIMITS).labels == VIDEO.labels
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(MaskError, match=r"meta\.json is none of YouTube-VOS: 'videos' is missing"):
        read_annotations(tmp_path, limits=LIMITS)


def test_which_of_several_folders_is_meant_is_not_guessed(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_folder(tmp_path / name, FORMATS["davis"].files(VIDEO))
    with pytest.raises(MaskError, match="2 folders of PNGs: give the one that is meant"):
        read_annotations(tmp_path, limits=LIMITS)
    (tmp_path / "a" / VIDEO.name).rename(tmp_path / "masks")  # what `tamvt track` calls its own
    assert read_annotations(tmp_path, limits=LIMITS).name == "masks"


def test_an_annotation_of_no_image_is_refused(tmp_path: Path) -> None:
    image = {"id": 1, "width": 4, "height": 4, "file_name": "a.jpg"}
    lone = {"image_id": 2, "category_id": 1, "segmentation": [[0, 0, 3, 0, 3, 3]]}
    (tmp_path / "a.json").write_text(json.dumps({"images": [image], "annotations": [lone]}))
    with pytest.raises(MaskError, match="does not list"):
        read_annotations(tmp_path / "a.json", limits=LIMITS)
