"""The options of a session, and the new session that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.core.contract import ModelSpec
from model.core.memory import Memory
from model.core.session_size import (
    choose_short_side,
    count_most_objects,
    list_short_sides,
    size_at,
)
from service.errors import BadOption, TooManyObjects
from service.sessions.annotations import GivenObjects, Size
from service.store.records import Session, Snapshot, SnapshotContents
from service.store.session_store import new_session_id


@dataclass(frozen=True, slots=True)
class ChosenOptions:
    """None is the model's own default."""

    model: str | None = None
    clip_length: int | None = None
    memory_size: int | None = None
    memory_gate: bool | None = None
    short_side: int | None = None  # None: by the width of the objects
    labels: Mapping[int, str] = field(default_factory=dict)

    def labels_of(self, objects: GivenObjects) -> dict[int, str]:
        """Return the labels by object; one given with the object goes before one in the options.

        Raise BadOption for an object that is not there.
        """
        unknown = sorted(set(self.labels) - set(objects.object_ids))
        if unknown:
            raise BadOption(f"options.labels names objects that are not there: {unknown}")
        return {**self.labels, **objects.labels}


def choose_session_size(
    spec: ModelSpec,
    frame_size: Size,
    options: ChosenOptions,
    least_width: float,
    objects: int,
    *,
    most: int | None = None,
) -> Size:
    """Return the size at which the model sees frames of a session with so many objects.

    By the width of the thinnest, in pixels of the frame, unless the options say it. Raise BadOption
    for a short side that the model does not have, or that is above `most`, and TooManyObjects where
    it has no room for them.
    """
    chosen, sides = options.short_side, list_short_sides(spec, most=most)
    if chosen is None:
        chosen = choose_short_side(spec, frame_size, least_width, objects=objects, most=most)
    elif chosen not in sides:
        raise BadOption(f"options.short_side is {chosen}; it may be {', '.join(map(str, sides))}")
    elif objects > (room := count_most_objects(spec, chosen)):
        raise TooManyObjects(
            f"{objects} objects; at most {room} are allowed with a short side of {chosen}"
        )
    return size_at(spec, frame_size, chosen)


def make_session(
    spec: ModelSpec,
    frame_size: Size,
    objects: GivenObjects,
    options: ChosenOptions,
    *,
    tenant: str,
) -> Session:
    """Return a session that knows only its reference; raise BadOption for an impossible value.

    The model sees frames at the size of the objects' soft masks.
    """
    memory_size = _chosen(
        "memory_size", options.memory_size, spec.memory_size, most=spec.max_memory_size
    )
    memory = Memory.start(0, objects.object_ids, capacity=memory_size)
    return Session(
        session_id=new_session_id(),
        tenant=tenant,
        model=spec.name,
        weights_sha256=spec.weights_sha256,
        frame_size=frame_size,
        model_size=(objects.soft.shape[1], objects.soft.shape[2]),
        object_ids=objects.object_ids,
        labels=options.labels_of(objects),
        clip_length=_chosen(
            "clip_length", options.clip_length, spec.clip_length, most=spec.max_clip_length
        ),
        memory_size=memory_size,
        memory_gate=spec.memory_gate if options.memory_gate is None else options.memory_gate,
        memory=memory,
        next_frame=1,
        snapshots=(Snapshot(0, contents=SnapshotContents(objects.object_ids, memory)),),
    )


def _chosen(name: str, value: int | None, default: int, *, most: int) -> int:
    if value is None:
        return default
    if not 1 <= value <= most:
        raise BadOption(f"options.{name} is {value}; it may be 1 to {most}")
    return value
