"""Sessions and masks as JSON, PNG and ZIP. Pure functions; those for masks belong on a worker."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.core.encoding import decode_rle, encode_polygons
from model.core.masks import overlay_masks
from model.core.palette import write_label_map
from service.store.records import FrameMasks, ObjectMask, Session

Size = tuple[int, int]
MaskFormat = Literal["rle", "polygons"]


def session_json(session: Session) -> dict[str, object]:
    """Return what `SessionOut` documents."""
    return {
        "session_id": session.session_id,
        "model": session.model,
        "weights_sha256": session.weights_sha256,
        "frame_size": session.frame_size,
        "objects": [
            {"id": object_id, "label": session.labels.get(object_id)}
            for object_id in session.object_ids
        ],
        "clip_length": session.clip_length,
        "memory_size": session.memory_size,
        "memory_gate": session.memory_gate,
        "next_frame": session.next_frame,
        "expires_at": session.expires_at.isoformat(timespec="seconds"),
    }


def write_json(content: Mapping[str, Any]) -> bytes:
    """Write compact JSON."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def frames_json(
    frames: Sequence[FrameMasks], session: Session, *, mask_format: MaskFormat
) -> list[dict[str, object]]:
    """Return what a list of `FrameMasksOut` documents."""
    size = session.frame_size
    return [
        {
            "frame": masks.frame,
            "objects": [
                {
                    "id": item.object_id,
                    **_written(item, size, mask_format=mask_format),
                    "area": item.area,
                    "bbox": item.bbox,
                    "confidence": item.confidence,
                    "state": item.state,
                }
                for item in masks.objects
            ],
        }
        for masks in frames
    ]


def write_frames(
    frames: Sequence[FrameMasks],
    session: Session,
    *,
    mask_format: MaskFormat,
    others: Mapping[str, object],
) -> bytes:
    """Write JSON with the frames' masks, and the other members around them."""
    return write_json({"frames": frames_json(frames, session, mask_format=mask_format), **others})


def write_png(masks: FrameMasks, session: Session) -> bytes:
    """Write the frame's label map as a palette PNG in the colors of DAVIS."""
    return write_label_map(label_map_of(masks, session))


def label_map_of(masks: FrameMasks, session: Session) -> NDArray[np.uint8]:
    """Return the label map, uint8 (H, W)."""
    size = session.frame_size
    return overlay_masks(
        ((item.object_id, decode_rle(_rle(item, size))) for item in masks.objects), size
    )


def write_zip(pictures: Mapping[int, bytes]) -> bytes:
    """Write a ZIP of PNGs by frame number, `00000.png` and so on."""
    file = io.BytesIO()
    # PNGs are compressed already.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for frame, png in pictures.items():
            archive.writestr(zipfile.ZipInfo(f"{frame:05d}.png"), png)
    return file.getvalue()


def _written(item: ObjectMask, size: Size, *, mask_format: MaskFormat) -> dict[str, object]:
    rle = _rle(item, size)
    if mask_format == "polygons":
        return {"polygons": encode_polygons(decode_rle(rle))}
    return {"rle": rle}


def _rle(item: ObjectMask, size: Size) -> dict[str, object]:
    return {"size": list(size), "counts": item.counts}
