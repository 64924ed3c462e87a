"""A model's graphs in OpenVINO, tried in a child process before they are trusted.

Wrong numbers and crashes while compiling were reported on some processors. The child compiles the
shapes of a usual session, runs them, and prints as JSON where they differ from ONNX Runtime; what
it compiled is on disk for the engine then. Letters: N entries, h and w the model's size.

    python -m service.engines.canary FOLDER NAME THREADS PRECISION [FILES]
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec, entry_output
from service.engines.inference import Inference
from service.errors import EngineUnavailable

DEADLINE_S: Final = 180.0
MOST_PIXELS: Final = 0.01  # of all masks, on the other side of one half
MOST_CONFIDENCE: Final = 0.05
MOST_OF_TENSOR: Final = 0.2  # mean difference, of the mean magnitude

Tensors = dict[str, NDArray[Any]]


def try_in_child(
    folder: Path,
    name: str,
    *,
    threads: int,
    precision: str,
    files: Path | None,
    python: str = sys.executable,
) -> str | None:
    """Return why this model cannot be run so, or None if it can."""
    words = [str(folder), name, str(threads), precision, *([str(files)] if files else [])]
    command = [python, "-m", "service.engines.canary", *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S
        )
    except subprocess.TimeoutExpired:
        return f"its canary took longer than {DEADLINE_S:.0f} s"
    if done.returncode < 0:
        return f"its canary ended by {signal.Signals(-done.returncode).name}"
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return f"its canary failed: {(done.stderr.splitlines() or ['it said nothing'])[-1]}"
    return "; ".join(json.loads(lines[-1])) or None


def scene(size: tuple[int, int], number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a frame (h, w, 3) with a disk that moves to the right, and its mask (h, w)."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    random = np.random.default_rng(number)
    ground = np.stack([x * 200 / width, y * 200 / height, (x + y) % 64], axis=-1)
    center_x = width * (0.4 + 0.01 * number)
    disk = (x - center_x) ** 2 + (y - height * 0.5) ** 2 < (height * 0.2) ** 2
    ground[disk] = (220, 60, 30)
    frame = np.clip(ground + random.integers(0, 24, ground.shape), 0, 255).astype(np.uint8)
    return frame, disk * np.uint8(255)


def inputs_of_segment(spec: ModelSpec, entry: Tensors, state: Tensors) -> Tensors:
    """Return what a session with a full memory, here N times one entry, gives `segment`."""
    slots = spec.memory_size
    clip = [scene(spec.buckets.sizes[0], number)[0] for number in range(1, spec.clip_length + 1)]
    bank = {t.name: np.stack([entry[t.name]] * slots, axis=1) for t in spec.bank}
    ages = np.arange(slots - 1, -1, -1, dtype=np.int32)[None]
    valid = np.ones((1, 1, slots), np.bool_)
    return {"frames": np.stack(clip)[None], **bank, **state, "age": ages, "entry_valid": valid}


def list_differences(found: Tensors, wanted: Tensors) -> Iterator[str]:
    """Yield a sentence for each output that is further from the right one than rounding is."""
    for name, right in wanted.items():
        ours = found[name].astype(np.float64)
        apart = np.abs(ours - right)
        if name == "masks":
            share = float(np.mean((ours >= 128) != (right >= 128)))
            if not share <= MOST_PIXELS:
                yield f"masks differ in {share:.1%} of pixels (at most {MOST_PIXELS:.0%})"
        elif name == "confidence":
            most = float(apart.max())
            if not most <= MOST_CONFIDENCE:
                yield f"confidence differs by {most:.3f} (at most {MOST_CONFIDENCE})"
        else:
            share = float(apart.mean() / max(float(np.abs(right.astype(np.float64)).mean()), 1e-6))
            if not share <= MOST_OF_TENSOR:  # NaN is no rounding either
                yield f"{name} differs by {share:.1%} of its size (at most {MOST_OF_TENSOR:.0%})"


def compare(spec: ModelSpec, ours: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """Return where two runtimes' graphs, by verb, differ; none if they agree."""
    size, run = spec.buckets.sizes[0], Inference()
    state: Tensors = {
        t.name: np.zeros((1, *t.slot_shape(size, objects=1)), t.dtype) for t in spec.state
    }
    frame, mask = scene(size, 0)
    given = {"frame": frame[None], "masks": mask[None, None], **state}
    entry = run(right["memorize"], given)
    found = list(list_differences(run(ours["memorize"], given), entry))
    inputs = inputs_of_segment(spec, entry, state)
    answer = run(ours["segment"], inputs)
    found += list_differences(answer, run(right["segment"], inputs))
    if spec.entry_by == "segment":
        # What a bank is rebuilt of has to be what was in it, bit for bit.
        last = {"frame": inputs["frames"][:, -1], "masks": answer["masks"][:, -1], **state}
        again = run(ours["memorize"], last)
        found += [
            f"{t.name} of segment is not what memorize makes"
            for t in spec.bank
            if not np.array_equal(again[t.name], answer[entry_output(t.name)])
        ]
    return found


def main(folder: str, name: str, threads: str, precision: str, files: str = "") -> None:
    """Print the differences as a JSON list."""
    from service.engines.graphs import open_graphs
    from service.engines.runtimes import open_vino

    right = open_graphs(Path(folder), name, threads=int(threads))
    runtime = open_vino(
        precision="bf16" if precision == "bf16" else "fp32",
        threads=int(threads),
        files=Path(files) if files else None,
    )
    ours = right.on(runtime, Path(folder))
    verbs = ("memorize", "segment")
    try:
        found = compare(
            right.spec,
            {verb: getattr(ours, verb) for verb in verbs},
            {verb: getattr(right, verb) for verb in verbs},
        )
    except EngineUnavailable as error:
        found = [str(error)]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
