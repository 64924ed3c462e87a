"""What `tamvt track` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import LimitedChoice

from service.commands.track_job.results import LostMasks
from service.media.formats.registry import FormatName

SUBJECT = Group("What is tracked", validator=LimitedChoice(1, 1))


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrackArguments:
    """The options of `tamvt track`."""

    out: Annotated[Path, Parameter(name=("-o", "--out"), help="folder for the masks")]
    mask: Annotated[
        Path | None,
        Parameter(group=SUBJECT, help="PNG of the objects in the reference frame, or annotations"),
    ] = None
    click: Annotated[
        tuple[str, ...],
        Parameter(
            group=SUBJECT,
            help="instead of a mask: pixels X,Y on one object",
            consume_multiple=True,
        ),
    ] = ()
    live: Annotated[
        float | None,
        Parameter(help="record a camera (its number) or a stream (its address) for so many s"),
    ] = None
    allow_private: Annotated[
        bool, Parameter(help="with --live: reach private addresses too, and RTSP and playlists")
    ] = False
    overlay: Annotated[bool, Parameter(help="also write OUT/overlay.mp4")] = False
    formats: Annotated[
        tuple[FormatName, ...],
        Parameter(
            name="--format", help="also write OUT/FORMAT/ for other tools", consume_multiple=True
        ),
    ] = ()
    url: Annotated[str | None, Parameter(help="a running service; without it one is started")] = (
        None
    )
    reference_frame: Annotated[int, Parameter(help="frame of the mask")] = 0
    both_ways: Annotated[
        bool, Parameter(help="from the reference frame also back to the first one")
    ] = False
    corrections: Annotated[
        Path | None, Parameter(help="folder of masks of later frames, named as those in OUT/masks")
    ] = None
    model: Annotated[str | None, Parameter(help="name of the model (the service's own choice)")] = (
        None
    )
    clip_length: Annotated[int | None, Parameter(help="frames processed at once")] = None
    memory_size: Annotated[int | None, Parameter(help="frames remembered")] = None
    short_side: Annotated[
        int | None,
        Parameter(help="of frames as the model sees them (chosen by the width of the objects)"),
    ] = None
    lost: Annotated[
        LostMasks, Parameter(help="masks of objects that are lost: written all the same, or empty")
    ] = "keep"
    restart: Annotated[bool, Parameter(help="forget an earlier run in OUT and begin again")] = False
