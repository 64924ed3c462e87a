"""A new session, from its reference frame and the masks that a person gives."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from service.access.admission import Reservation
from service.sessions.annotations import FRAME_BYTES, MASK_BYTES, Annotation, read_annotation
from service.sessions.backend import SessionBackend
from service.sessions.clips import encode_reference
from service.sessions.frames import Limits, count_picture, make_frame_of_picture, read_picture
from service.sessions.options import ChosenOptions, choose_session_size, make_session
from service.store.records import Session, entry_field


class Started(NamedTuple):
    """A new session, and what is to be said of the masks that were given."""

    session: Session
    notes: tuple[str, ...]


async def start(
    image: bytes,
    given: Annotation,
    options: ChosenOptions,
    backend: SessionBackend,
    *,
    limits: Limits,
    tenant: str,
    reservation: Reservation,
) -> Started:
    """Store a new session whose frame 0 is `image`, with the given masks, and return it.

    The pictures are counted in the reservation before they are decoded. Raises UnknownModel,
    BadOption, what `annotations`, `frames` and the reservation raise, and TooMany.
    """
    spec, run = backend.engine(options.model).spec, backend.workers.start
    picture_pixels = count_picture(image, limits.image, name="the frame")
    reservation.take(picture_pixels * FRAME_BYTES)
    with reservation.count(picture_pixels * MASK_BYTES):
        rgb = await run(read_picture, image, limits.image, name="the frame")
        frame_size = (rgb.shape[0], rgb.shape[1])
        objects = await run(
            read_annotation,
            given,
            frame_size=frame_size,
            model_size=partial(
                choose_session_size, spec, frame_size, options, most=limits.short_side
            ),
            limits=limits.image,
            max_objects=min(limits.objects, spec.max_objects),
        )
    session = make_session(spec, frame_size, objects, options, tenant=tenant)
    frame = await run(make_frame_of_picture, image, rgb, model_size=session.model_size)
    masks, entry = await run(encode_reference, frame, objects, session)
    session = await backend.store.create(session, masks=[masks], entries={entry_field(0): entry})
    return Started(session, objects.notes)
