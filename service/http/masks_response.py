"""Masks as a response: on a worker, frame by frame where polygons are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from service.errors import Overloaded, TooManyContours
from service.http.dependencies import Service
from service.sessions.responses import describe_frame, write_frames, write_members
from service.store.records import FrameMasks, Session
from tamvt_client.messages import MaskFormat

MOST_NUMBERS: Final = 2_000_000  # of the polygons in one answer


async def write_answer(
    service: Service,
    frames: Sequence[FrameMasks],
    session: Session,
    *,
    mask_format: MaskFormat,
    **others: object,
) -> bytes:
    """Return the JSON of `write_frames`.

    Polygons are bounded: raise TooManyContours beyond `MOST_NUMBERS` of them, and Overloaded where
    they are not made within the deadline.
    """
    run = service.workers.start
    if mask_format == "rle":
        return await run(write_frames, frames, session, mask_format=mask_format, **others)
    members: list[dict[str, Any]] = []
    numbers = 0
    try:
        async with asyncio.timeout(service.deadline_s):
            for masks in frames:
                found: dict[str, Any] = await run(
                    describe_frame, masks, session, mask_format=mask_format
                )
                members.append(found)
                numbers += sum(len(p) for item in found["objects"] for p in item["polygons"])
                if numbers > MOST_NUMBERS:
                    raise TooManyContours(
                        f"up to frame {masks.frame} the polygons have more than {MOST_NUMBERS} "
                        "numbers; ask for fewer frames, or for format=rle"
                    )
            return await run(write_members, members, **others)
    except TimeoutError as error:
        raise Overloaded(
            f"no polygons within {service.deadline_s:g} s; ask for fewer frames, or for format=rle"
        ) from error
