"""Run clips through a real Triton and through ONNX Runtime on the CPU, and compare the masks.

    python -m scripts.deploy.smoke REPOSITORY [--backend python|onnxruntime|tensorrt]

deploy/triton/smoke.sh calls it. With the Python backend the server is the wheel's; else it is the
`tritonserver` on PATH, that of NVIDIA's container. Both engines start each clip from the same
frames and masks, so that what is compared is one clip's numbers, not how errors grow.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from model.core.memory import Memory
from service.engines.base import Engine, EntryPicture
from service.engines.embedded import embedded_engine
from service.engines.triton.engine import triton_engine
from service.errors import TamvtError
from service.local.supervisor import find_free_port, start_child, stop_child
from service.local.triton import local_triton, wait_until_ready
from service.media.sample import draw_sample
from service.server.malloc import keep_large_blocks

NAME = "tamvt-mobile"
ENTRIES = 4
LENGTH = 2
CLIPS = 5
START_S = 900.0
LEAST = 0.999  # of all pixels, as for a replica of another runtime
STOP_S = 60.0


@contextmanager
def server_on_path(repository: Path) -> Iterator[str]:
    """Run `tritonserver` until the block is left; raise Misconfigured if it does not serve.

    What it printed is shown where something fails.
    """
    grpc, metrics = find_free_port(), find_free_port()
    words = ["--disable-auto-complete-config", "--allow-http=false", "--allow-client-shm=true"]
    words += [f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    command = ["tritonserver", f"--model-repository={repository}", *words]
    with tempfile.TemporaryDirectory(prefix="tamvt-smoke-") as folder:
        log = Path(folder) / "triton.log"
        process = start_child(command, log=log, environment=os.environ)
        try:
            wait_until_ready(process, f"127.0.0.1:{grpc}", log, deadline_s=START_S)
            yield f"127.0.0.1:{grpc}"
        except TamvtError:
            sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
            raise
        finally:
            stop_child(process, deadline_s=STOP_S)


async def segment(
    engine: Engine, frames: NDArray[np.uint8], pictures: Sequence[EntryPicture], *, clip: int
) -> tuple[NDArray[np.uint8], float]:
    """Return the soft masks (L, O, H, W) of one clip, and its milliseconds with a new bank."""
    memory = Memory.start(0, [1], capacity=ENTRIES)
    for frame in range(1, len(pictures)):
        memory = memory.remember(frame, [1])

    async def given() -> Sequence[EntryPicture]:
        return pictures

    started_at = time.perf_counter()
    size = (frames.shape[1], frames.shape[2])
    lease = engine.lease(f"smoke-{clip}", version=1, memory=memory, model_size=size, pictures=given)
    async with lease as bank:
        answer = await bank.segment(frames, before=memory, object_ids=[1])
    return answer.masks, (time.perf_counter() - started_at) * 1000


async def compare(url: str, backend: str) -> bool:
    """Print how far the masks agree; return whether that is far enough."""
    async with (
        embedded_engine(SHIPPED_WEIGHTS, NAME, threads=0) as embedded,
        triton_engine(url, NAME, memory=None) as served,
    ):
        height, width = embedded.spec.buckets.sizes[0]
        drawn = list(islice(draw_sample(), ENTRIES + CLIPS * LENGTH))
        images = [
            cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) for rgb, _ in drawn
        ]
        masks = [
            cv2.resize((labels > 0).astype(np.uint8) * 255, (width, height))[None]
            for _, labels in drawn
        ]
        agree, times = [], []
        for clip in range(CLIPS):
            first = clip * LENGTH
            pictures = [
                EntryPicture(np.asarray(images[k], np.uint8), np.asarray(masks[k], np.uint8))
                for k in range(first, first + ENTRIES)
            ]
            frames = np.stack(images[first + ENTRIES : first + ENTRIES + LENGTH]).astype(np.uint8)
            expected, _ = await segment(embedded, frames, pictures, clip=clip)
            found, took_ms = await segment(served, frames, pictures, clip=clip)
            if not (expected >= 128).any():  # two empty masks would agree
                raise ValueError(f"clip {clip} shows no object")
            agree.append(float(((found >= 128) == (expected >= 128)).mean()))
            times.append(took_ms)
    right = min(agree) >= LEAST
    print(
        f"{backend}: label maps agree in {min(agree):.3%} of pixels, "
        f"{sorted(times)[CLIPS // 2]:.0f} ms a clip: {'ok' if right else 'FAILED'}"
    )
    return right


def main() -> int:
    """Return 0 if the masks agree, else 1."""
    parser = argparse.ArgumentParser(description="Compare a real Triton with ONNX Runtime.")
    parser.add_argument("repository", type=Path)
    parser.add_argument(
        "--backend", default="python", choices=("python", "onnxruntime", "tensorrt")
    )
    words = parser.parse_args()
    keep_large_blocks()
    if words.backend == "python":
        with local_triton(words.repository) as server:
            return 0 if asyncio.run(compare(server.url, words.backend)) else 1
    with server_on_path(words.repository) as url:
        return 0 if asyncio.run(compare(url, words.backend)) else 1


if __name__ == "__main__":
    sys.exit(main())
