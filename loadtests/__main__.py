"""Load a service in many ways and write what came of it: `make loadtest`.

    python -m loadtests [--minutes 10] [-o build/loadtest] [--only rest lossless capacity]
        [--url http://127.0.0.1:8000]

Locust's scenarios come first, each against a service of its own, and then the live sessions that
this machine carries. The folder gets `report.md`, CSV files and pictures. The status is 1 if
something failed or could not be run. With `--url` the scenarios that fit go to a service that is
there; they never leave this machine unless `--allow-remote` is said.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.addresses import require_loopback
from loadtests.capacity import LiveSessions, list_cases, measure_cases
from loadtests.figures import Row, describe_run, write_csv, write_table
from loadtests.load_video import LoadVideo
from loadtests.locust_runs import ScenarioRun, run_scenario
from loadtests.plots import plot_latency, plot_over_time
from loadtests.scenarios import SCENARIOS, LoadTarget, Scenario, one_gateway
from loadtests.videos import data_folder, real_video
from service.errors import TamvtError
from service.server.malloc import keep_large_blocks

CAPACITY = "capacity"
NAMES = [*(each.name for each in SCENARIOS), CAPACITY]
MIXED = ((256, 448), (360, 640), (480, 854))  # sizes of frames, height and width
# Of the whole time: what each scenario, each probe and each run that holds a number takes.
SCENARIO_SHARE, PROBE_SHARE, HELD_SHARE = 0.025, 0.01, 0.1


@dataclass(slots=True)
class LoadReport:
    """What was measured, and what is wrong."""

    about: dict[str, str]
    runs: list[ScenarioRun] = field(default_factory=list)
    found: list[LiveSessions] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def tries(self) -> dict[str, list[Row]]:
        """Return what was tried for each case."""
        return {
            f"{each.case.runtime}, objects: {each.case.objects}, {each.case.fps:g}/s": [
                *each.rows()
            ]
            for each in self.found
        }

    def seconds(self) -> dict[str, list[Row]]:
        """Return what went on second by second, in each scenario and case."""
        scenarios = {run.scenario.name: run.watch.rows for run in self.runs}
        cases = [each.watch.rows if each.watch else [] for each in self.found]
        return {**scenarios, **dict(zip(self.tries(), cases, strict=True))}

    def write(self, out: Path) -> str:
        """Write tables, CSV files and pictures to a folder; return the report."""
        about = ", ".join(self.about.values())
        lines = ["# Load test", "", about]
        if self.found:
            headlines = write_table([each.headline() for each in self.found])
            lines += ["", "## Live sessions", "", headlines]
            lines += ["", "![Latency against sessions](latency.svg)"]
            write_csv(out / "sessions.csv", [row for rows in self.tries().values() for row in rows])
            plot_latency(out / "latency.svg", self.tries(), about=about)
            if targets := [row for each in self.found for row in each.targets]:
                lines += ["", "## Below and above it", "", write_table(targets)]
        if self.runs:
            rows = [row for run in self.runs for row in run.rows]
            write_csv(out / "scenarios.csv", rows)
            lines += ["", "## Scenarios", "", write_table(rows), ""]
            lines += [f"- {run.scenario.name}: {run.scenario.about}" for run in self.runs]
        parts = self.seconds()
        over_time = [{"part": name, **row} for name, rows in parts.items() for row in rows]
        if over_time:
            write_csv(out / "seconds.csv", over_time)
            plot_over_time(out / "seconds.svg", parts, about=about)
            lines += ["", "![What went on, second by second](seconds.svg)"]
        lines += ["", "## Notices", "", *(f"- {text}" for text in self.notices() or ["none"])]
        text = "\n".join(lines) + "\n"
        (out / "report.md").write_text(text, encoding="utf-8")
        return text

    def notices(self) -> list[str]:
        """Return what happened beside, what disturbed, and what is wrong."""
        told = [f"{run.scenario.name}: {text}" for run in self.runs for text in run.told]
        watched = zip(self.tries(), self.found, strict=True)
        told += [f"{name}: {text}" for name, each in watched for text in each.notices()]
        return [*told, *self.wrong]


def choose_videos(scenario: Scenario) -> list[LoadVideo]:
    """Return one video, or for `mixed` several sizes and numbers of objects."""
    if scenario.name != "mixed":
        return [real_video(data_folder())]
    return [
        real_video(data_folder(), objects=count, size=size) for size in MIXED for count in (1, 3)
    ]


def run_scenarios(report: LoadReport, args: argparse.Namespace, names: Sequence[str]) -> None:
    """Run Locust's scenarios of these names and add them to the report."""
    keys = [args.key] if args.key else []
    target = LoadTarget(args.url, [args.url], keys=keys, metrics_key=args.key) if args.url else None
    for scenario in SCENARIOS:
        if scenario.name not in names:
            continue
        if target is not None and scenario.serve is not one_gateway:
            report.wrong.append(f"{scenario.name}: not run: it needs services of its own")
            continue
        print(f"{scenario.name}: {scenario.about}", file=sys.stderr, flush=True)
        try:
            run = run_scenario(
                scenario,
                choose_videos(scenario),
                seconds=60 * args.minutes * SCENARIO_SHARE,
                out=args.out,
                target=target,
                more=["--allow-remote"] if args.allow_remote else [],
            )
        except TamvtError as error:
            report.wrong.append(f"{scenario.name}: not run: {error}")
            continue
        report.runs.append(run)
        report.wrong += run.failures


def run_capacity(report: LoadReport, args: argparse.Namespace) -> None:
    """Find the live sessions of each case and add them to the report."""
    for found in measure_cases(
        list_cases(args.runtimes, args.objects, args.fps),
        data_folder(),
        probe_s=60 * args.minutes * PROBE_SHARE,
        held_s=min(60.0, 60 * args.minutes * HELD_SHARE),
        targets=True,
        triton=args.triton_repository,
    ):
        if isinstance(found, str):
            report.wrong.append(found)
        else:
            report.found.append(found)
            print(f"capacity: {found.headline()}", file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Return 0, or 1 if something failed."""
    args = _parse(words)
    keep_large_blocks()
    args.out.mkdir(parents=True, exist_ok=True)
    report, names = LoadReport(describe_run()), args.only or NAMES
    run_scenarios(report, args, names)
    if CAPACITY in names and args.url:
        report.wrong.append(f"{CAPACITY}: not run: it needs services of its own")
    elif CAPACITY in names:
        run_capacity(report, args)
    print(report.write(args.out))
    return 1 if report.wrong else 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of it, about")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/loadtest"))
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--triton-repository", type=Path, help="for --runtimes triton")
    parser.add_argument("--objects", type=int, nargs="+", default=[1], help="of the live sessions")
    parser.add_argument("--fps", type=float, nargs="+", default=[10.0, 30.0], help="of those")
    parser.add_argument("--url", help="of a service that is there; it gets the load of scenarios")
    parser.add_argument("--key", default="", help="of a tenant of that service")
    parser.add_argument("--allow-remote", action="store_true", help="it may be another machine's")
    args = parser.parse_args(words)
    if args.url:
        args.url = require_loopback(args.url.rstrip("/"), allow_remote=args.allow_remote)
    return args


if __name__ == "__main__":
    sys.exit(main())
