"""What a stream answers for frames that are committed. Pure functions; they belong on a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from service.sessions.clip_pipeline import ClipTimes
from service.sessions.responses import frames_json, write_png
from service.store.records import FrameMasks, Session
from service.stream.outbox import Message
from tamvt_client import wire

Written = Literal["rle", "png"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What is known of a frame that came on this stream; times are of `time.perf_counter`."""

    timestamp_us: int
    received_s: float
    begun_s: float  # decoding
    decoded_s: float


@dataclass(frozen=True, slots=True)
class Known:
    """The frames of a clip as they came, by number, and the clip's moments."""

    sent: Mapping[int, Sent] = field(default_factory=dict)
    times: ClipTimes = field(default_factory=ClipTimes)


def write_responses(
    frames: Sequence[FrameMasks], session: Session, known: Known, *, masks: Written
) -> list[Message]:
    """The messages for these frames, in order: `masks` for each, `dropped` for each run of them."""
    messages: list[Message] = []
    for dropped, run in _runs(frames):
        if dropped:
            messages.append(wire.write_dropped([item.frame for item in run]))
            continue
        for item in run:
            messages += _respond(item, session, known, masks=masks)
    return messages


def timing(sent: Sent, times: ClipTimes) -> dict[str, float]:
    """Milliseconds by stage, which add up to `total_ms`. Stages that there were not are left out.

    receive: until a worker took the frame; queue: from decoded until the engine began.
    """
    marks = {
        "receive": sent.begun_s,
        "decode": sent.decoded_s,
        "queue": times.queued,
        "inference": times.inferred,
        "encode": times.encoded,
        "store": times.stored,
    }
    found: dict[str, float] = {}
    last = sent.received_s
    for stage, mark in marks.items():
        if mark:
            found[f"{stage}_ms"] = round(1000 * (mark - last), 3)
            last = mark
    return {**found, "total_ms": round(1000 * (last - sent.received_s), 3)}


def _respond(
    item: FrameMasks, session: Session, known: Known, *, masks: Written
) -> Iterator[Message]:
    sent = known.sent.get(item.frame)
    (shown,) = frames_json([item], session, mask_format="rle")
    objects = shown["objects"]
    assert isinstance(objects, list)
    if masks == "png":
        objects = [{name: part[name] for name in part if name != "rle"} for part in objects]
    yield wire.write_masks(
        frame=item.frame,
        timestamp=sent.timestamp_us if sent else None,
        objects=objects,
        timing=timing(sent, known.times) if sent else {},
    )
    if masks == "png":
        timestamp_us = sent.timestamp_us if sent else 0
        picture = wire.Picture(item.frame, timestamp_us, write_png(item, session))
        yield wire.write_picture(picture, kind=wire.LABEL_MAP)


def _runs(frames: Sequence[FrameMasks]) -> Iterator[tuple[bool, list[FrameMasks]]]:
    """Neighbors that are all dropped, or all not."""
    run: list[FrameMasks] = []
    for item in frames:
        if run and run[0].dropped != item.dropped:
            yield run[0].dropped, run
            run = []
        run.append(item)
    if run:
        yield run[0].dropped, run
