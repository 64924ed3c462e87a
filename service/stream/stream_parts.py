"""What a stream is made with: its channel, what its client asked for, limits, and shared parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from service.server.workers import Workers
from service.sessions.tracking import TrackingService
from service.stream.flow import Mode
from service.stream.outbox import Message
from service.stream.ownership import OwnershipWatch
from service.stream.responses import Written
from service.telemetry.metrics import Metrics


class Channel(Protocol):
    """Messages in and out, whatever carries them."""

    async def receive(self) -> Message:
        """Return the next message; raise Disconnected."""
        ...

    async def send(self, message: Message) -> None:
        """Wait until the message is on its way; raise Disconnected."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close the connection and tell why."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What the client asked for when it connected."""

    mode: Mode = "lossless"
    masks: Written = "rle"
    first: int | None = None  # masks from this frame on are replayed
    max_wait_s: float = 0.05
    stats: bool = False  # told once a second
    durable_s: float | None = None  # seconds between commits; None: each clip's before its masks


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one stream may have, in frames and seconds."""

    credits: int
    frame_bytes: int
    stall_s: float  # for the client to read one message
    idle_s: float  # without a message
    close_s: float = 5.0  # to send what is left, and the last message


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What every stream of this process uses."""

    tracker: TrackingService
    workers: Workers
    metrics: Metrics
    watch: OwnershipWatch
    limits: StreamLimits
