"""How many live sessions a machine carries: each frame has its masks in time, none is passed over.

    python -m loadtests.capacity [--runtimes onnxruntime openvino] [--objects 1 3] [--fps 10 30]
        [--seconds 60] [--probe-seconds 10] [--targets] [--triton-repository FOLDER]

Open loop, JPEG of 854x480, 256x448 in the model, `lossless`, clips of one frame, client on the
same machine; `triton` is one of the runtimes where a repository is named. First the number is
looked for with short probes, then held for `--seconds`: p95 from due to masks has to stay below
100 ms with every frame answered. With `--targets` also 0.7 of it, and three times as many.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.figures import Row, write_table
from loadtests.gateways import gateway
from loadtests.open_loop import OpenLoopOptions, OpenLoopResult, send_open_loop
from loadtests.videos import data_folder, real_video
from loadtests.watching import LoadWatch, watching
from service.commands.bench_service import read_runtime, start_triton
from service.errors import StartupError

P95_MS = 100.0
MOST_LATE_MS = 5.0
SIZE = (480, 854)  # height, width
MOST = 64  # sessions; more are not looked for
TRITON = "triton"  # among the runtimes
Probe = Callable[[int, float], Awaitable[OpenLoopResult]]


@dataclass(frozen=True, slots=True)
class LiveCase:
    """What is looked for: sessions of so many objects at so many frames/s, with this runtime."""

    runtime: str
    objects: int
    fps: float


@dataclass(slots=True)
class LiveSessions:
    """How many there are, every try, and what disturbed them."""

    case: LiveCase
    sessions: int = 0
    held: OpenLoopResult | None = None  # the run that proves it
    tries: list[OpenLoopResult] = field(default_factory=list)
    targets: list[Row] = field(default_factory=list)
    watch: LoadWatch | None = None

    def headline(self) -> Row:
        """Return a row of the headline's table."""
        held = self.held
        return {
            "runtime": self.case.runtime,
            "objects": self.case.objects,
            "frames/s": self.case.fps,
            "live sessions": self.sessions,
            "held s": held.options.seconds if held else "",
            "p50 ms": held.latency.p50_ms if held else float("nan"),
            "p95 ms": held.latency.p95_ms if held else float("nan"),
            "p99 ms": held.latency.p99_ms if held else float("nan"),
            "client CPU": f"{held.client_cpu:.0%}" if held else "",
        }

    def notices(self) -> list[str]:
        """Return what disturbed: other work, or the client itself."""
        found = self.watch.notices() if self.watch else []
        if self.held and self.held.late_ms > MOST_LATE_MS:
            found.append(f"the client itself was {self.held.late_ms:.0f} ms late (p95)")
        return found

    def rows(self) -> Iterator[Row]:
        """Yield every try, for the CSV and the plot."""
        case = {"runtime": self.case.runtime, "objects": self.case.objects}
        yield from ({**case, **each.row()} for each in self.tries)


async def find_live_sessions(
    found: LiveSessions, probe: Probe, *, probe_s: float, held_s: float
) -> None:
    """Look for the most sessions that are live: double, halve the gap, and hold what is left."""

    async def is_live(sessions: int, seconds: float) -> bool:
        result = await probe(sessions, seconds)
        found.tries.append(result)
        if live := result.is_live(p95_ms=P95_MS):
            found.held = result
        return live

    good, bad = 0, 1
    while bad <= MOST and await is_live(bad, probe_s):
        good, bad = bad, 2 * bad
    bad = min(bad, MOST + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        if await is_live(middle, probe_s):
            good = middle
        else:
            bad = middle
    found.held = None
    while good and not await is_live(good, held_s):
        good -= 1
    found.sessions = good


async def measure_targets(found: LiveSessions, probe: Probe, *, seconds: float) -> None:
    """Measure latencies at 0.7 of what is carried, and throughput at three times as much."""
    if not found.held:
        return
    easy = await probe(max(1, int(0.7 * found.sessions)), seconds)
    much = await probe(3 * found.sessions, seconds)
    found.tries += [easy, much]
    best_fps = max(each.fps for each in found.tries)
    case = f"{found.case.runtime}, {found.case.fps:g} frames/s"
    found.targets = [
        {
            "what": f"p99 / p50 latency at 70 % ({easy.options.sessions} sessions, {case})",
            "value": easy.latency.p99_ms / easy.latency.p50_ms,
            "target": "at most 3",
        },
        {
            "what": f"throughput at 3 times as much ({much.options.sessions} sessions, {case}), "
            f"of the best; {len(much.refusals)} refused, {much.lost} frames late or lost",
            "value": much.fps / best_fps,
            "target": "at least 0.85",
        },
    ]


def measure_case(
    case: LiveCase,
    data: Path,
    *,
    probe_s: float,
    held_s: float,
    targets: bool,
    triton: Path | None = None,
) -> LiveSessions:
    """Serve with a runtime and find its live sessions; raise StartupError if it does not start."""
    found = LiveSessions(case)
    with ExitStack() as stack:
        settings = {"TAMVT_RUNTIME": case.runtime}
        if case.runtime == TRITON:
            if triton is None:
                raise StartupError("no repository is named (--triton-repository)")
            settings = next(iter(start_triton(triton, stack).values()))  # by shared memory
        url, _ = stack.enter_context(gateway(threads=0, **settings))
        watch = stack.enter_context(watching([url]))
        video = real_video(data, objects=case.objects, size=SIZE)

        async def probe(sessions: int, seconds: float) -> OpenLoopResult:
            options = OpenLoopOptions(sessions=sessions, fps=case.fps, seconds=seconds)
            return await send_open_loop(url, video, options)

        async def run() -> None:
            await find_live_sessions(found, probe, probe_s=probe_s, held_s=held_s)
            if targets:
                await measure_targets(found, probe, seconds=probe_s)

        served_by = read_runtime(url)
        if not served_by.startswith(case.runtime):
            raise StartupError(f"the service runs on {served_by} instead; its log says why")
        found.watch = watch
        asyncio.run(run())
    return found


def measure_cases(
    cases: Sequence[LiveCase],
    data: Path,
    *,
    probe_s: float,
    held_s: float,
    targets: bool,
    triton: Path | None = None,
) -> Iterator[LiveSessions | str]:
    """Yield what was found for each case, or a sentence why it was not measured."""
    for number, case in enumerate(cases):
        try:
            yield measure_case(
                case,
                data,
                probe_s=probe_s,
                held_s=held_s,
                targets=targets and not number,
                triton=triton,
            )
        except StartupError as error:
            yield f"{case.runtime}, {case.objects} objects, {case.fps:g} frames/s: not run: {error}"


def list_cases(
    runtimes: Sequence[str], objects: Sequence[int], fps: Sequence[float]
) -> list[LiveCase]:
    """Return each runtime with each number of objects at each rate."""
    return [LiveCase(name, count, rate) for name in runtimes for count in objects for rate in fps]


def main() -> None:
    """Print the headline's table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--fps", type=float, nargs="+", default=[10.0, 30.0])
    parser.add_argument("--seconds", type=float, default=60.0, help="to hold what was found")
    parser.add_argument("--probe-seconds", type=float, default=10.0)
    parser.add_argument("--targets", action="store_true", help="also 0.7 and 3 times as many")
    parser.add_argument("--triton-repository", type=Path, help="for --runtimes triton")
    words = parser.parse_args()
    rows, targets = list[Row](), list[Row]()
    for found in measure_cases(
        list_cases(words.runtimes, words.objects, words.fps),
        data_folder(),
        probe_s=words.probe_seconds,
        held_s=words.seconds,
        targets=words.targets,
        triton=words.triton_repository,
    ):
        if isinstance(found, str):
            print(found, flush=True)
            continue
        rows.append(found.headline())
        targets += found.targets
        print(write_table([found.headline()]), *found.notices(), sep="\n", flush=True)
    for table in (rows, targets):
        if table:
            print(f"\n{write_table(table)}")


if __name__ == "__main__":
    main()
