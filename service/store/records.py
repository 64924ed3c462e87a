"""What the store holds of a session: frozen values. `codec.py` turns them into bytes and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from model.core.memory import Memory

DEFAULT_TENANT: Final = "default"  # where callers have no names
ANY_TENANT: Final = ""  # of a session that was stored before sessions had a tenant
NO_DIGEST = ""  # of a dropped frame: its bytes are not known

State = Literal["visible", "lost", "human", "dropped"]


@dataclass(frozen=True, slots=True)
class ObjectMask:
    """One object's mask in one frame, at the frame's size."""

    object_id: int
    counts: str  # COCO's compressed run-length encoding; its size is the session's frame_size
    area: int
    bbox: tuple[int, int, int, int]  # x, y, width, height
    confidence: float
    state: State


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """All masks of one frame, the clip it was processed in, and the digest of its bytes."""

    frame: int
    clip: tuple[int, int]  # first and last frame number
    digest: str  # SHA-256 (hex) of the frame's bytes as they came; NO_DIGEST if it was dropped
    objects: tuple[ObjectMask, ...]

    @property
    def dropped(self) -> bool:
        """Return whether the frame was skipped, so that it has no masks."""
        return self.digest == NO_DIGEST


def name_frame_field(frame: int, memory: Memory) -> str:
    """Return the field of a frame's entry, whether or not the memory still holds it."""
    held = (entry for entry in memory.entries if entry.frame == frame)
    return next((entry_field(frame, entry.revision) for entry in held), entry_field(frame))


def name_state_field(frame: int) -> str:
    """Return the field of the state that a model carries on from the clip that ends with `frame`.

    A correction of that frame has no state of its own: it follows from this one (decision 68).
    """
    return f"{frame}.state"


def entry_field(frame: int, revision: int = 0) -> str:
    """Return the field of an entry: a corrected one does not replace the first (decision 30)."""
    return f"{frame}.{revision}" if revision else str(frame)


class EncodedEntry(NamedTuple):
    """One entry of the memory as it is stored: a small frame and its masks without loss."""

    frame: bytes  # model.core.pixels.keep_frame
    masks: bytes  # model.core.masks.pack_soft_masks, in the order of object_ids
    object_ids: tuple[int, ...]  # of these masks, objects that were removed since included


@dataclass(frozen=True, slots=True)
class SnapshotContents:
    """What a session goes on from: all that a snapshot keeps of it."""

    object_ids: tuple[int, ...]
    memory: Memory
    state: str = ""  # the name of the record with the model's own state; empty: it has none


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session as it was when `frame` was its newest one.

    Revision 0 is as the clip that ends with `frame` left it. Another is after a change of that
    frame by hand, and the session's version then.
    """

    frame: int
    revision: int = 0
    corrected: bool = False  # the frame's masks were changed since; the first ones are kept
    superseded: bool = False  # the session went on from a later revision of this frame
    contents: SnapshotContents | None = field(default=None, compare=False)  # None: read from Redis

    @property
    def name(self) -> str:
        """Return the name by which its records are stored."""
        return entry_field(self.frame, self.revision)


@dataclass(frozen=True, slots=True)
class Session:
    """One session as it is committed. Each commit makes a new value with the next version."""

    session_id: str
    model: str
    weights_sha256: str  # of the model that made the newest masks
    frame_size: tuple[int, int]  # height, width
    model_size: tuple[int, int]  # height, width
    object_ids: tuple[int, ...]
    labels: Mapping[int, str]
    clip_length: int
    memory_size: int
    memory: Memory
    next_frame: int
    tenant: str = DEFAULT_TENANT  # whose it is: for all others it does not exist
    version: int = 1  # fencing: one more with each commit
    memory_gate: bool = False  # no entry is written for an object that is lost
    kept_from: int = 0  # the oldest frame whose masks are kept
    snapshots: tuple[Snapshot, ...] = ()  # what can be forked, oldest first; the last one is now
    state: str = ""  # see SnapshotContents
    runtime: str = ""  # what ran the model for the newest masks; empty before the first clip
    state_rebuilt_at: int | None = None  # the last frame before which its state was made anew
    stored_bytes: int = field(default=0, compare=False)  # of masks and entries, as Redis counts
    reserved_bytes: int = field(default=0, compare=False)  # with the tenant's quota
    expires_at: datetime = field(default=datetime.fromtimestamp(0, UTC), compare=False)

    @property
    def newest(self) -> int:
        """Return the number of the newest frame."""
        return self.next_frame - 1

    @property
    def contents(self) -> SnapshotContents:
        """Return what a snapshot keeps of the session as it is."""
        return SnapshotContents(self.object_ids, self.memory, self.state)

    def advanced(
        self,
        *,
        memory: Memory,
        next_frame: int,
        snapshots: tuple[Snapshot, ...] | None = None,
        weights_sha256: str | None = None,
        runtime: str | None = None,
        state: str | None = None,
    ) -> Session:
        """Return the session after one more commit; `None` keeps what it has."""
        return replace(
            self,
            memory=memory,
            next_frame=next_frame,
            version=self.version + 1,
            snapshots=self.snapshots if snapshots is None else snapshots,
            weights_sha256=weights_sha256 or self.weights_sha256,
            runtime=runtime or self.runtime,
            state=self.state if state is None else state,
        )


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much may be stored, in sessions and bytes; 0 sets no limit."""

    tenant_sessions: int = 0
    tenant_bytes: int = 0  # of all sessions of a tenant
    tenant_objects: int = 0  # likewise
    session_bytes: int = 0
    frame_masks_bytes: int = 0  # of all masks of one frame


NO_LIMITS: Final = StoreLimits()
