"""Still pictures with masks: what is read, what is picked, and what is refused by name."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.core.palette import davis_palette
from model.data.errors import DataError
from model.data.static import (
    PERSON,
    SET_WEIGHTS,
    Still,
    StillPaths,
    keep_shown,
    label_others,
    list_stills,
    pick_instance,
    pick_object,
    read_labels,
    read_still,
)
from tests.model.data.drawings import draw_labels, draw_picture, write_jpeg, write_palette


def picks(labels: NDArray[np.uint8], count: int = 60) -> list[int]:
    """The areas that `count` draws picked."""
    rng = np.random.default_rng(1)
    masks = [pick_object(labels, rng, min_share=0.004) for _ in range(count)]
    return [int(mask.sum()) for mask in masks if mask is not None]


def test_the_weights_of_the_sets_add_up_to_one() -> None:
    assert sum(SET_WEIGHTS.values()) == pytest.approx(1.0)


def test_pictures_are_listed_with_their_masks(data: Path) -> None:
    stills = list_stills(data / "static" / "coco")
    assert [still.image.name for still in stills] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [still.mask.name for still in stills] == ["0.png", "1.png", "2.png"]


def test_a_picture_without_a_mask_is_left_out(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "a.jpg", seed=0)
    write_jpeg(tmp_path / "b.jpg", seed=0)
    write_palette(tmp_path / "b.png", draw_labels())
    for hidden in ("._b.jpg", "._b.png"):
        (tmp_path / hidden).write_bytes(b"of a Mac")
    assert [still.image.name for still in list_stills(tmp_path)] == ["b.jpg"]


def test_a_picture_is_read_as_rgb_with_its_labels(data: Path) -> None:
    paths = list_stills(data / "static" / "coco")[0]
    still = read_still(paths)
    # The tests write with OpenCV, which takes the last axis as BGR.
    difference = still.image.astype(int) - draw_picture(100)[..., ::-1].astype(int)
    assert np.abs(difference).mean() < 12
    assert (still.labels == draw_labels()).all()


def test_a_palette_mask_keeps_its_indices(tmp_path: Path) -> None:
    write_palette(tmp_path / "mask.png", draw_labels())
    assert (read_labels(tmp_path / "mask.png") == draw_labels()).all()


def test_a_one_bit_mask_gives_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(draw_labels() > 0).save(tmp_path / "mask.png")
    assert (read_labels(tmp_path / "mask.png") == (draw_labels() > 0)).all()


def test_each_instance_is_picked_alone_or_with_its_neighbor() -> None:
    areas = set(picks(draw_labels()))
    assert areas == {30 * 24, 30 * 14, 30 * 24 + 30 * 14}


def test_a_speck_is_never_picked() -> None:
    labels = draw_labels()
    assert picks(np.where(labels == 3, labels, 0).astype(np.uint8)) == []


def test_only_an_instance_of_the_kind_asked_for_is_picked() -> None:
    still, rng = Still(draw_picture(0), draw_labels(), ("dog", "cat")), np.random.default_rng(0)
    for _ in range(20):
        picked = pick_instance(still, rng, min_share=0.004, kind="cat")
        assert picked is not None
        assert picked.kind == "cat"
        assert (picked.mask == (draw_labels() == 2)).all()
    assert pick_instance(still, rng, min_share=0.004, kind="bird") is None


def test_a_picked_instance_knows_its_kind() -> None:
    still = Still(draw_picture(0), draw_labels(), ("dog", "cat"))
    rng = np.random.default_rng(0)
    picked = [pick_instance(still, rng, min_share=0.004) for _ in range(20)]
    assert {each.kind for each in picked if each is not None} == {"dog", "cat"}


def full_width() -> NDArray[np.uint8]:
    """A table across the picture: instance 1 touches three borders, 2 stands before it."""
    labels = np.zeros_like(draw_labels())
    labels[30:] = 1
    labels[10:40, 30:50] = 2
    return labels


def test_what_fills_three_borders_is_a_backdrop() -> None:
    still, rng = Still(draw_picture(0), full_width(), ("table", "dog")), np.random.default_rng(0)
    picked = [pick_instance(still, rng, min_share=0.004) for _ in range(20)]
    assert {each.kind for each in picked if each is not None} == {"dog"}


def test_a_person_may_fill_three_borders() -> None:
    still, rng = Still(draw_picture(0), full_width(), (PERSON, "dog")), np.random.default_rng(0)
    picked = [pick_instance(still, rng, min_share=0.004) for _ in range(20)]
    assert {each.kind for each in picked if each is not None} == {PERSON, "dog"}


def test_kinds_are_read_beside_the_set(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "coco" / "a.jpg", seed=0)
    write_palette(tmp_path / "coco" / "a.png", draw_labels())
    (tmp_path / "coco_categories.json").write_text('{"a": ["dog", "yolo0"]}')
    still = read_still(list_stills(tmp_path / "coco")[0])
    assert [still.find_kind(label) for label in (0, 1, 2, 3)] == [None, "dog", PERSON, None]


@pytest.mark.parametrize(
    ("folder", "name", "kind"),
    [("humanseg", "a", PERSON), ("icoseg", "002_a", "icoseg 002"), ("ecssd", "a", None)],
)
def test_some_sets_tell_the_kind_by_their_name(
    tmp_path: Path, folder: str, name: str, kind: str | None
) -> None:
    write_jpeg(tmp_path / folder / f"{name}.jpg", seed=0)
    write_palette(tmp_path / folder / f"{name}.png", draw_labels())
    assert read_still(list_stills(tmp_path / folder)[0]).find_kind(1) == kind


@pytest.mark.parametrize("text", ["no json", "[]", '{"a": 3}'])
def test_a_broken_list_of_kinds_is_named(tmp_path: Path, text: str) -> None:
    write_jpeg(tmp_path / "coco" / "a.jpg", seed=0)
    write_palette(tmp_path / "coco" / "a.png", draw_labels())
    (tmp_path / "coco_categories.json").write_text(text)
    with pytest.raises(DataError, match=r"coco_categories\.json"):
        list_stills(tmp_path / "coco")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone"):
        list_stills(tmp_path / "gone")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        list_stills(tmp_path)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    write_palette(tmp_path / "a.png", draw_labels())
    with pytest.raises(DataError, match=r"a\.jpg"):
        read_still(StillPaths(tmp_path / "a.jpg", tmp_path / "a.png"))


@pytest.mark.parametrize("keep_bytes", [0, 20, 60])
def test_a_truncated_mask_is_named(tmp_path: Path, keep_bytes: int) -> None:
    path = tmp_path / "a.png"
    write_palette(path, draw_labels())
    path.write_bytes(path.read_bytes()[:keep_bytes])
    with pytest.raises(DataError, match=r"a\.png"):
        read_labels(path)


def test_a_color_picture_is_no_mask(tmp_path: Path) -> None:
    Image.fromarray(draw_picture(0)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is no mask: .* outside of the DAVIS palette"):
        read_labels(tmp_path / "a.png")


def test_a_mask_in_the_colors_of_davis_is_read(tmp_path: Path) -> None:
    Image.fromarray(davis_palette()[draw_labels()]).save(tmp_path / "a.png")
    assert (read_labels(tmp_path / "a.png") == draw_labels()).all()


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "a.jpg", seed=0)
    write_palette(tmp_path / "a.png", draw_labels()[:40])
    with pytest.raises(DataError, match=r"a\.png is \(40, 96\)"):
        read_still(StillPaths(tmp_path / "a.jpg", tmp_path / "a.png"))


def test_other_instances_of_a_picture_are_labeled_from_two_on() -> None:
    labels = draw_labels()
    target = (labels == 1).astype(np.uint8)
    others = label_others(Still(labels, labels), target, np.random.default_rng(0), most=3)
    assert others is not None
    assert ((others == 2) == (labels == 2)).all()  # the speck, 3, is too small to follow
    assert others.max() == 2


def test_a_picture_of_one_object_has_no_others() -> None:
    labels = (draw_labels() == 1).astype(np.uint8)
    rng = np.random.default_rng(0)
    assert label_others(Still(labels, labels), labels, rng, most=3) is None


def test_objects_that_the_first_frame_hardly_shows_become_background() -> None:
    masks = np.zeros((2, 10, 10), np.uint8)
    masks[0, :5], masks[0, 5, 0], masks[1, :2], masks[1, 4:8] = 2, 1, 1, 3
    masks[0, 9] = 4
    kept = keep_shown(masks, least=0.05)
    assert np.unique(kept[0]).tolist() == [0, 1, 2]
    assert (kept[0, :5] == 1).all()
    assert not kept[1].any()
