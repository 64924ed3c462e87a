"""Sessions and masks as JSON, PNG and ZIP. Pure functions; those for masks belong on a worker."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from model.core.encoding import IntricateMask, decode_rle, encode_polygons
from model.core.masks import overlay_masks
from model.core.palette import write_label_map
from service.errors import TooManyContours
from service.store.records import FrameMasks, ObjectMask, Session
from tamvt_client.messages import MaskFormat, SessionOut

Size = tuple[int, int]


def describe_session(session: Session, *, notes: Sequence[str] | None = None) -> SessionOut:
    """Return the session as it is answered; with `notes` where masks were given."""
    names = SessionOut.model_fields.keys() - {"objects", "notes"}
    given = {name: getattr(session, name) for name in names}
    if notes is not None:
        given["notes"] = notes
    objects = [
        {"id": object_id, "label": session.labels.get(object_id)}
        for object_id in session.object_ids
    ]
    return SessionOut.model_validate({**given, "objects": objects})


def describe_frame(
    masks: FrameMasks, session: Session, *, mask_format: MaskFormat
) -> dict[str, object]:
    """Return the members of a `FrameMasksOut`; raise TooManyContours."""
    size = session.frame_size
    objects: list[dict[str, object]] = []
    for item in masks.objects:
        rle = _rle(item, size)
        encoded: object = rle
        if mask_format == "polygons":
            try:
                encoded = encode_polygons(decode_rle(rle))
            except IntricateMask as error:
                raise TooManyContours(
                    f"the mask of object {item.object_id} in frame {masks.frame} is no set of "
                    f"polygons: {error}; ask for format=rle"
                ) from error
        objects.append(
            {
                "id": item.object_id,
                mask_format: encoded,
                "area": item.area,
                "bbox": item.bbox,
                "confidence": item.confidence,
                "state": item.state,
            }
        )
    return {"frame": masks.frame, "objects": objects}


def write_frames(
    frames: Sequence[FrameMasks], session: Session, *, mask_format: MaskFormat, **others: object
) -> bytes:
    """Return an `AppendedOut` or `MasksOut` as JSON: the frames' masks, and its other members.

    Written from plain values, without the model: validating thousands of masks takes five times
    as long as writing them.
    """
    members = [describe_frame(masks, session, mask_format=mask_format) for masks in frames]
    return write_members(members, **others)


def write_members(members: Sequence[Mapping[str, object]], **others: object) -> bytes:
    """Return what `write_frames` does, from the members of its frames."""
    return to_json({"frames": members, **others}, inf_nan_mode="null")


def write_corrected(
    masks: FrameMasks, session: Session, *, mask_format: MaskFormat, notes: Sequence[str]
) -> bytes:
    """Return a `CorrectedOut` as JSON."""
    members = describe_frame(masks, session, mask_format=mask_format)
    others = {"next_frame": session.next_frame, "notes": notes}
    return to_json({**members, **others}, inf_nan_mode="null")


def write_png(masks: FrameMasks, session: Session) -> bytes:
    """Write the frame's label map as a palette PNG in the colors of DAVIS."""
    return write_label_map(draw_label_map(masks, session))


def draw_label_map(masks: FrameMasks, session: Session) -> NDArray[np.uint8]:
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


def _rle(item: ObjectMask, size: Size) -> dict[str, object]:
    return {"size": list(size), "counts": item.counts}
