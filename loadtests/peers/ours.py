"""Our engine as a peer among others: one session, its bank, and the graphs; no HTTP, no Redis."""

from __future__ import annotations

import asyncio
import atexit
from contextlib import AsyncExitStack

import numpy as np
from numpy.typing import NDArray

from loadtests.peers.timing import Step
from service.commands.steady_session import SampleFootage, SteadySession
from service.engines.embedded import embedded_engine
from service.engines.runtimes import RuntimeName, RuntimeOptions
from service.errors import StartupError
from service.settings import read_settings


def track(
    frames: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    threads: int,
    model: str,
    runtime: RuntimeName,
    clip_length: str,
) -> Step:
    """Return what counts frames and runs a clip when one is full, its memory filled before."""
    loop, stack, settings = asyncio.new_event_loop(), AsyncExitStack(), read_settings()
    atexit.register(lambda: loop.run_until_complete(stack.aclose()))  # until then it stays open
    opened = embedded_engine(
        settings.weights,
        model,
        threads=threads,
        runtime=RuntimeOptions(runtime, settings.runtime_files),
    )
    engine = loop.run_until_complete(stack.enter_async_context(opened))
    if not engine.runtime.startswith(runtime):
        raise StartupError(f"{model} runs on {engine.runtime} instead of {runtime}")
    length, left = int(clip_length), int(clip_length)
    session = SteadySession(
        engine,
        SampleFootage(frames, np.where(labels > 0, np.uint8(255), np.uint8(0))),
        objects=int(labels.max()),
        clip_length=length,
        memory_size=engine.spec.memory_size,
    )
    loop.run_until_complete(session.fill())

    def step(_: object) -> None:
        """Count a frame; the session plays the same footage."""
        nonlocal left
        left -= 1
        if not left:
            loop.run_until_complete(session.clip_ms())
            left = length

    return step
