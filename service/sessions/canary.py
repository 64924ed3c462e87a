"""The canary: a clip with known masks that every engine runs at start and at intervals.

An engine can answer in time and be wrong: a processor's bf16 that a compiler gets wrong, a graph
that was exported badly, memory that rots. So a square is drawn that moves over a floor, and the
engine has to find it, with the runtime and in the precision it serves with. What it finds may also
not change from run to run while its weights and runtime are the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.core.j_and_f import jaccard
from model.core.memory import Memory
from service.engines.base import ClipMasks, Engine, EntryPicture
from service.errors import Unavailable
from service.telemetry.health import Health
from service.telemetry.metrics import Metrics

FLOOR, SQUARE = (128, 128, 128), (220, 40, 40)
LEAST_J: Final = 0.7  # with the square; a sound engine has 0.9 and more
LEAST_AGREEMENT: Final = 0.999  # of pixels with the first run
START_S: Final = 10.0  # that a start waits for the first run
AGAIN_S: Final = 5.0  # after a run that failed
HALF: Final = 128  # of a soft mask

log = logging.getLogger(__name__)


class Verdict(NamedTuple):
    """What a run came to: the square's J, and why it failed (empty: it did not)."""

    j: float
    reason: str


class Canary:
    """One engine's canary, and what its first run found."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._first: ClipMasks | None = None

    async def run(self) -> Verdict:
        """Run the clip and judge its masks; raise Unavailable if the engine gives no answer."""
        spec = self._engine.spec
        size = spec.buckets.sizes[0]
        pictures, masks = draw(size, frames=1 + spec.clip_length)
        memory = Memory.start(0, [1], capacity=spec.memory_size)

        async def reference() -> list[EntryPicture]:
            return [EntryPicture(pictures[0], np.uint8(255) * masks[:1])]

        lease = self._engine.lease(
            "canary", version=1, memory=memory, model_size=size, pictures=reference
        )
        async with lease as bank:
            found = await bank.segment(pictures[1:], before=memory, object_ids=[1])
        return self.judge(found, masks[1:])

    def judge(self, found: ClipMasks, true: NDArray[np.bool_]) -> Verdict:
        """Compare masks with the true ones (L, h, w), and with those of the first run."""
        predicted = found.masks[:, 0] >= HALF
        j = min(jaccard(*pair) for pair in zip(predicted, true, strict=True))
        who = f"{self._engine.spec.name} in {found.runtime}"
        if not np.isfinite(found.confidence).all():
            return Verdict(j, f"the confidence of the canary clip is no number ({who})")
        if j < LEAST_J:
            return Verdict(
                j,
                f"the masks of the canary clip are wrong: J {j:.2f}, and at least {LEAST_J} is "
                f"expected ({who})",
            )
        first = self._first
        if first is None or (first.weights_sha256, first.runtime) != (
            found.weights_sha256,
            found.runtime,
        ):
            self._first = found
            return Verdict(j, "")
        agreement = float((predicted == (first.masks[:, 0] >= HALF)).mean())
        if agreement < LEAST_AGREEMENT:
            return Verdict(
                j,
                f"the masks of the canary clip have changed: {agreement:.2%} of the pixels are as "
                f"at first ({who})",
            )
        return Verdict(j, "")


def draw(size: tuple[int, int], *, frames: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return pictures (frames, h, w, 3) of a square that moves right, and its masks."""
    height, width = size
    side, step = height // 2, max(1, width // 64)
    masks = np.zeros((frames, height, width), np.bool_)
    for number in range(frames):
        left = width // 8 + step * number
        masks[number, height // 4 : height // 4 + side, left : left + side] = True
    colors = np.array([FLOOR, SQUARE], np.uint8)
    return colors[masks.astype(np.uint8)], masks


@asynccontextmanager
async def watch_engines(
    engines: Mapping[str, Engine], health: Health, metrics: Metrics, *, interval_s: float
) -> AsyncIterator[None]:
    """Run every engine's canary now and at intervals; one that fails makes the service unready.

    Intervals of 0 s: never. The block begins after the first runs, or after `START_S`.
    """
    if not interval_s:
        yield
        return
    ran = asyncio.Event()

    async def watch() -> None:
        canaries = {model: Canary(engine) for model, engine in engines.items()}
        while True:
            sound = True
            for model, canary in canaries.items():
                try:
                    verdict = await canary.run()
                except Unavailable:  # whether an engine answers at all is asked elsewhere
                    continue
                except Exception:  # the next run may tell more: the watch goes on
                    log.exception("the canary of %s could not be run", model)
                    sound = False
                    continue
                metrics.count_canary(model, j=verdict.j, failed=bool(verdict.reason))
                health.report(model, verdict.reason)
                sound = sound and not verdict.reason
                if verdict.reason:
                    log.error("%s", verdict.reason)
            ran.set()
            await asyncio.sleep(interval_s if sound else min(interval_s, AGAIN_S))

    task = asyncio.create_task(watch())
    waiting = asyncio.create_task(ran.wait())
    try:
        await asyncio.wait((task, waiting), timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        yield
    finally:
        for one in (task, waiting):
            one.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
