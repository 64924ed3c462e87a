"""The options of a session, and the new session that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.core.contract import ModelSpec
from model.core.memory import Memory
from model.core.pixels import model_size
from service.errors import BadOption
from service.sessions.annotations import GivenObjects
from service.store.records import Session, Snapshot, SnapshotContents
from service.store.session_store import new_session_id


@dataclass(frozen=True, slots=True)
class ChosenOptions:
    """None is the model's own default."""

    model: str | None = None
    clip_length: int | None = None
    memory_size: int | None = None
    memory_gate: bool | None = None
    labels: Mapping[int, str] = field(default_factory=dict)

    def labels_of(self, objects: GivenObjects) -> dict[int, str]:
        """Return the labels by object; one given with the object goes before one in the options.

        Raise BadOption for an object that is not there.
        """
        unknown = sorted(set(self.labels) - set(objects.object_ids))
        if unknown:
            raise BadOption(f"options.labels names objects that are not there: {unknown}")
        return {**self.labels, **objects.labels}


def choose_session_size(spec: ModelSpec, frame_size: tuple[int, int]) -> tuple[int, int]:
    """Return the size at which the model sees frames of this size."""
    return model_size(
        *frame_size,
        short_side=spec.short_side,
        max_ratio=spec.max_ratio,
        multiple=spec.multiple,
    )


def make_session(
    spec: ModelSpec,
    frame_size: tuple[int, int],
    objects: GivenObjects,
    options: ChosenOptions,
    *,
    tenant: str,
) -> Session:
    """Return a session that knows only its reference; raise BadOption for an impossible value."""
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
        model_size=choose_session_size(spec, frame_size),
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
