"""The messages that answer committed frames. Pure functions; they belong on a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from service.sessions.responses import describe_frame, write_png
from service.store.records import FrameMasks, Session
from service.stream.outbox import Message
from service.telemetry.stage_times import StageTimes
from tamvt_client import wire

Written = Literal["rle", "png"]


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """What is known of a frame that came on this stream.

    Stages: receive, until a worker took the frame; decode; queue, until the engine began; then
    those of its clip. Stages that there were not are left out.
    """

    timestamp_us: int
    times: StageTimes


def write_responses(
    frames: Sequence[FrameMasks],
    session: Session,
    received: Mapping[int, ReceivedFrame],
    *,
    masks: Written,
    durable: int | None = None,
) -> list[Message]:
    """Return the messages in order: `masks` for each frame, `dropped` for each run of them.

    `received` are, by number, the frames that came on this stream. `durable`, the newest committed
    frame, is told where it is given, and then the frame's clip too.
    """
    messages: list[Message] = []
    for dropped, run in groupby(frames, key=lambda item: item.dropped):
        if dropped:
            messages.append(wire.write_dropped([item.frame for item in run]))
            continue
        for item in run:
            known = received.get(item.frame)
            timestamp_us = known.timestamp_us if known else None
            objects = describe_frame(item, session, mask_format="rle")["objects"]
            assert isinstance(objects, list)
            if masks == "png":
                objects = [{name: part[name] for name in part if name != "rle"} for part in objects]
            text = wire.write_masks(
                frame=item.frame,
                timestamp=timestamp_us,
                objects=objects,
                timing=known.times.milliseconds() if known else {},
                durable=durable,
                clip=item.clip,
            )
            messages.append(text)
            if masks == "png":
                image = wire.ImageMessage(item.frame, timestamp_us or 0, write_png(item, session))
                messages.append(wire.write_image(image, kind=wire.LABEL_MAP))
    return messages
