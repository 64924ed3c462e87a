"""Label maps, masks and soft masks, and how each becomes the other.

Letters: O objects (in the order of `object_ids`), H x W the frame's size, h x w the model's.
A mask is bool (H, W); a soft mask uint8, 255 times its probability; a label map uint8 of ids.
RLE and polygons are in `encoding.py`, PNG images in `palette.py`.

Two forms are cheaper than the textbook's, and exact. Soft masks are packed with zlib at level 1
over the differences along each row: other codecs were smaller or quicker, none both. STM's soft
aggregation (background `prod(1 - p)`, clamp, odds, largest wins) keeps the order of the
probabilities, so from 128 of 255 on an object beats the background, 0 never does, and only values
between need the product, in whole numbers. Ties go to the background, then to the first object.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.pixels import resize_masks

IGNORE = 255
MAX_SOFT_BYTES = 1 << 28  # what unpacking may allocate

_PACKED = struct.Struct(">4sHHH")  # magic, objects, height, width
_MAGIC = b"SMZ1"


class MaskError(ValueError):
    """A mask that cannot be used; the message says why."""


def settle_ignored(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the label map without value 255.

    255 is object 1 where no other non-zero value occurs (a 0/255 mask), otherwise background.
    """
    ignored = labels == IGNORE
    if not ignored.any():
        return labels
    alone = not ((labels != 0) & ~ignored).any()
    return np.where(ignored, np.uint8(alone), labels)


def count_pixels(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return int64 (256,): how often each value occurs in a label map (H, W)."""
    strips = np.array_split(labels, max(1, labels.size >> 20))  # bincount takes 8 bytes a pixel
    counts = [np.bincount(strip.ravel(), minlength=256) for strip in strips]
    return np.asarray(np.sum(counts, axis=0), dtype=np.int64)


def split_objects(labels: NDArray[np.uint8]) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """Return the object ids of a label map, increasing, and their masks, bool (O, H, W)."""
    settled = settle_ignored(labels)
    object_ids = np.flatnonzero(count_pixels(settled)[1:]) + 1
    masks = settled[None] == object_ids.astype(np.uint8)[:, None, None]
    return tuple(object_ids.tolist()), masks


def soft_masks(masks: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return uint8 (O, h, w): given masks, bool (O, H, W), as the model takes them."""
    return resize_masks(masks.astype(np.uint8) * np.uint8(255), size)


def label_map(
    soft: NDArray[np.uint8],
    object_ids: Sequence[int],
    frame_size: tuple[int, int],
    *,
    aggregated: bool = False,
) -> NDArray[np.uint8]:
    """Return uint8 (H, W): the label map of soft masks (O, h, w) at the frame's size.

    Soft masks are resized first (INTER_LINEAR) and aggregated there, so edges stay smooth; those of
    a model that aggregated them already are compared as they are.
    """
    resized = np.empty((len(soft), *frame_size), dtype=np.uint8)
    for index, mask in enumerate(soft):
        resized[index] = cv2.resize(mask, frame_size[::-1], interpolation=cv2.INTER_LINEAR)
    choose = choose_most_probable if aggregated else aggregate
    return choose(resized, object_ids)


def choose_most_probable(soft: NDArray[np.uint8], object_ids: Sequence[int]) -> NDArray[np.uint8]:
    """Return uint8 (H, W): the label map of aggregated soft masks (O, H, W).

    The background has what is left of 255. Equal values go to it first, then in the order of
    `object_ids`.
    """
    if len(soft) == 0:
        return np.zeros(soft.shape[1:], dtype=np.uint8)
    best, labels = _strongest(soft, object_ids)
    taken = soft.sum(axis=0, dtype=np.uint16)
    return np.where(best > 255 - np.minimum(taken, 255), labels, np.uint8(0))


def aggregate(soft: NDArray[np.uint8], object_ids: Sequence[int]) -> NDArray[np.uint8]:
    """Return uint8 (H, W): the label map of soft masks (O, H, W), by STM's soft aggregation.

    The background's probability is prod(1 - p) over the objects; each probability is clamped to
    [1e-7, 1 - 1e-7] and becomes its odds p / (1 - p); the largest wins (STM, Oh et al. 2019,
    section 3.3). Clamp and odds keep the order, so the largest probability wins: an object
    where p >= 128/255 for it, else where its p exceeds the product. Equal values go to
    the background first, then in the order of `object_ids`.
    """
    if len(soft) != len(object_ids):
        raise ValueError(f"{len(soft)} soft masks for {len(object_ids)} object ids")
    if len(soft) == 0:
        return np.zeros(soft.shape[1:], dtype=np.uint8)
    if len(soft) == 1:
        return np.asarray(
            cv2.threshold(soft[0], 127, object_ids[0], cv2.THRESH_BINARY)[1], np.uint8
        )
    best, labels = _strongest(soft, object_ids)
    return np.where(_beats_background(soft, best), labels, np.uint8(0))


def overlay_masks(
    masks: Iterable[tuple[int, NDArray[np.bool_]]], frame_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return uint8 (H, W): the label map of (object id, mask) pairs, each mask bool (H, W).

    Where masks overlap, as those that were given may, the lowest id is seen.
    """
    labels = np.zeros(frame_size, dtype=np.uint8)
    for object_id, mask in sorted(masks, key=lambda pair: pair[0], reverse=True):
        labels[mask] = object_id
    return labels


def _strongest(
    soft: NDArray[np.uint8], object_ids: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the largest soft value of each pixel and the id of the first object that has it."""
    best = soft[0].copy()
    labels = np.full(best.shape, object_ids[0], dtype=np.uint8)
    for mask, object_id in zip(soft[1:], object_ids[1:], strict=True):
        stronger = np.negative((mask > best).view(np.uint8))  # 255 where it is
        labels ^= (labels ^ np.uint8(object_id)) & stronger  # several times as fast as np.where
        np.maximum(best, mask, out=best)
    return best, labels


def _beats_background(soft: NDArray[np.uint8], best: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where (H, W) the largest soft value is above the background's, prod(1 - p).

    Only values 1..127 need the product. In units of 1/255 both sides are whole numbers, exact in
    float64 for up to six objects.
    """
    beats = best >= 128
    doubtful = np.flatnonzero((best - np.uint8(1)) < 127)
    background = np.ones(len(doubtful))
    for mask in soft:
        background *= 255.0 - mask.ravel()[doubtful]
    strongest = best.ravel()[doubtful] * 255.0 ** (len(soft) - 1)
    beats.ravel()[doubtful] = strongest > background
    return beats


def bounding_box(mask: NDArray[np.bool_]) -> list[int]:
    """Return [x, y, width, height] of a mask in pixels; all 0 if it is empty."""
    return [int(value) for value in cv2.boundingRect(mask.view(np.uint8))]


def pack_soft_masks(soft: NDArray[np.uint8]) -> bytes:
    """Return the soft masks, uint8 (O, h, w), as a few kB; `unpack_soft_masks` gives them back.

    A header with the shape, then zlib (level 1) over the differences along each row.
    """
    header = _PACKED.pack(_MAGIC, *soft.shape)
    return header + zlib.compress(np.diff(soft, axis=2, prepend=np.uint8(0)).tobytes(), level=1)


def unpack_soft_masks(packed: bytes) -> NDArray[np.uint8]:
    """Return uint8 (O, h, w): what was packed; raise MaskError where the bytes are not whole."""
    try:
        magic, *shape = _PACKED.unpack_from(packed)
        length = int(np.prod(shape))
        if magic != _MAGIC or length > MAX_SOFT_BYTES:
            raise MaskError("these bytes are not packed soft masks")
        inflate = zlib.decompressobj()
        differences = inflate.decompress(packed[_PACKED.size :], length + 1)
    except (struct.error, zlib.error) as error:
        raise MaskError(f"packed soft masks are damaged: {error}") from error
    if len(differences) != length or not inflate.eof or inflate.unused_data:
        raise MaskError("packed soft masks are damaged: their length differs")
    rows = np.frombuffer(differences, dtype=np.uint8).reshape(shape)
    return np.cumsum(rows, axis=2, dtype=np.uint8)
