"""Label maps, masks and soft masks."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from model.core.masks import (
    MaskError,
    aggregate,
    bounding_box,
    choose_most_probable,
    label_map,
    overlay_masks,
    pack_soft_masks,
    settle_ignored,
    soft_masks,
    split_objects,
    unpack_soft_masks,
)

SOFT = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7))


def labels_of(*rows: list[int]) -> NDArray[np.uint8]:
    return np.array(rows, dtype=np.uint8)


def literal_aggregation(soft: NDArray[np.uint8]) -> NDArray[np.int64]:
    """STM's soft aggregation word for word: positions 1.. of objects, 0 the background."""
    p = soft.astype(np.float64) / 255
    em = np.concatenate([np.prod(1 - p, axis=0, keepdims=True), p]).clip(1e-7, 1 - 1e-7)
    return np.asarray(np.argmax(np.log(em / (1 - em)), axis=0))


def test_255_alone_is_object_1() -> None:
    assert settle_ignored(labels_of([0, 255, 255])).tolist() == [[0, 1, 1]]


def test_255_beside_another_value_is_ignored() -> None:
    assert settle_ignored(labels_of([0, 255, 7])).tolist() == [[0, 0, 7]]


def test_a_label_map_without_255_stays() -> None:
    labels = labels_of([0, 254, 7])
    assert (settle_ignored(labels) == labels).all()


def test_objects_come_in_increasing_order_with_their_masks() -> None:
    object_ids, masks = split_objects(labels_of([0, 9, 2], [2, 9, 255]))
    assert object_ids == (2, 9)
    assert masks.astype(int).tolist() == [[[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 1, 0]]]


def test_an_empty_label_map_has_no_objects() -> None:
    object_ids, masks = split_objects(np.zeros((4, 5), dtype=np.uint8))
    assert object_ids == ()
    assert masks.shape == (0, 4, 5)


def test_soft_masks_at_the_same_size_are_0_or_255(blob: NDArray[np.bool_]) -> None:
    soft = soft_masks(blob[None], blob.shape)
    assert (soft[0] == np.where(blob, 255, 0)).all()


def test_shrunken_soft_masks_keep_the_area(blob: NDArray[np.bool_]) -> None:
    soft = soft_masks(blob[None], (128, 224))
    assert soft.mean() / 255 == pytest.approx(blob.mean(), abs=1e-3)


def test_a_mask_comes_back_from_the_models_size(blob: NDArray[np.bool_]) -> None:
    labels = label_map(soft_masks(blob[None], (256, 448)), [5], blob.shape)
    assert set(np.unique(labels)) == {0, 5}
    assert np.mean((labels == 5) != blob) < 2e-3


def test_a_label_map_is_made_at_the_frames_size(blob: NDArray[np.bool_]) -> None:
    soft = soft_masks(np.stack([blob, ~blob]), (96, 160))
    resized = np.stack([cv2.resize(s, (640, 360), interpolation=cv2.INTER_LINEAR) for s in soft])
    assert (label_map(soft, [3, 8], (360, 640)) == aggregate(resized, [3, 8])).all()


@given(SOFT)
def test_aggregation_is_stms(soft: NDArray[np.uint8]) -> None:
    object_ids = [10 * (index + 1) for index in range(len(soft))]
    expected = literal_aggregation(soft) * 10
    p = soft.astype(np.float64) / 255
    tied = np.isclose(np.prod(1 - p, axis=0), p.max(axis=0), rtol=0, atol=1e-12)
    assert ((aggregate(soft, object_ids) == expected) | tied).all()


def test_one_object_wins_above_one_half() -> None:
    soft = np.arange(256, dtype=np.uint8).reshape(1, 1, 256)
    assert (aggregate(soft, [254])[0] == np.where(np.arange(256) / 255 > 0.5, 254, 0)).all()
    assert (literal_aggregation(soft)[0] == (np.arange(256) >= 128)).all()


def test_two_objects_may_win_below_one_half() -> None:
    # Background 0.553 * 0.635 = 0.351 is less than 0.447; alone, the object would lose.
    assert aggregate(np.array([[[114]], [[93]]], dtype=np.uint8), [1, 2]) == 1
    assert aggregate(np.array([[[114]], [[0]]], dtype=np.uint8), [1, 2]) == 0


def test_equal_values_go_to_the_background_then_to_the_first_object() -> None:
    # (255 - 102) * (255 - 85) = 102 * 255 exactly.
    assert aggregate(np.array([[[102]], [[85]]], dtype=np.uint8), [1, 2]) == 0
    assert aggregate(np.array([[[200]], [[200]]], dtype=np.uint8), [9, 2]) == 9


def test_sixteen_certain_objects_stay_apart() -> None:
    soft = np.eye(16, dtype=np.uint8)[:, None] * np.uint8(255)  # (16, 1, 16)
    assert aggregate(soft, range(1, 17)).tolist() == [list(range(1, 17))]


def test_no_objects_make_an_empty_label_map() -> None:
    assert label_map(np.zeros((0, 4, 4), dtype=np.uint8), [], (6, 8)).tolist() == [[0] * 8] * 6


def test_every_soft_mask_has_an_object_id() -> None:
    with pytest.raises(ValueError, match="2 soft masks for 1"):
        aggregate(np.zeros((2, 4, 4), dtype=np.uint8), [1])


def test_a_bounding_box_is_x_y_width_height() -> None:
    mask = np.zeros((10, 12), dtype=np.bool_)
    mask[2:5, 3:10] = True
    assert bounding_box(mask) == [3, 2, 7, 3]
    assert bounding_box(np.zeros((10, 12), dtype=np.bool_)) == [0, 0, 0, 0]


@given(SOFT)
def test_packing_loses_nothing(soft: NDArray[np.uint8]) -> None:
    unpacked = unpack_soft_masks(pack_soft_masks(soft))
    assert unpacked.shape == soft.shape
    assert unpacked.dtype == np.uint8
    assert (unpacked == soft).all()


def test_packed_soft_masks_are_small(blob: NDArray[np.bool_]) -> None:
    soft = cv2.GaussianBlur(soft_masks(blob[None], (256, 448))[0], (0, 0), 2)[None]
    assert len(pack_soft_masks(np.asarray(soft, dtype=np.uint8))) < soft.size / 10


def test_no_masks_are_packed_too() -> None:
    assert unpack_soft_masks(pack_soft_masks(np.zeros((0, 4, 6), np.uint8))).shape == (0, 4, 6)


@given(SOFT, st.data())
def test_damaged_packing_is_refused(soft: NDArray[np.uint8], data: st.DataObject) -> None:
    packed = pack_soft_masks(soft)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(MaskError):
        unpack_soft_masks(packed[:cut])
    with pytest.raises(MaskError):
        unpack_soft_masks(packed + b"x")


@given(st.binary(max_size=60))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MaskError):
        unpack_soft_masks(data)
    with pytest.raises(MaskError):
        unpack_soft_masks(pack_soft_masks(np.ones((1, 2, 3), np.uint8))[:10] + data)


def test_a_flipped_bit_is_noticed(blob: NDArray[np.bool_]) -> None:
    packed = bytearray(pack_soft_masks(soft_masks(blob[None], (64, 96))))
    packed[-5] ^= 4
    with pytest.raises(MaskError, match="damaged"):
        unpack_soft_masks(bytes(packed))


def test_where_given_masks_overlap_the_lowest_id_is_seen() -> None:
    high, low = np.zeros((2, 4, 6), np.bool_)
    high[:, :4] = low[1:3, 2:] = True
    labels = overlay_masks([(7, high), (3, low)], (4, 6))
    assert labels.dtype == np.uint8
    assert (labels[low] == 3).all()
    assert (labels[high & ~low] == 7).all()
    assert not labels[~(high | low)].any()


def test_aggregated_masks_are_compared_as_they_are() -> None:
    soft = np.array([[[92, 60, 128, 0]], [[87, 60, 127, 0]]], np.uint8)
    assert choose_most_probable(soft, (3, 7)).tolist() == [[3, 0, 3, 0]]
    # Aggregating them again would give the first pixel to the background.
    assert aggregate(soft, (3, 7)).tolist() == [[0, 0, 3, 0]]
