"""Our models beside others: milliseconds a frame in one run, with equal threads, malloc and size.

    python -m loadtests.peers [--objects 1 3] [--size 256x448] [--threads 0] [--rounds 5]
        [--peer NAME=PYTHON,MODULE:FACTORY[,WORD...]] [--make] [-o build/side-by-side]

Every peer tracks the built-in sample in a process of its own, in its own environment, and they are
timed in turns, so that a disturbance of the machine meets all of them. `--peer` adds one: Python
and a callable a frame (loadtests/peers/timing.py says how it is called). Cutie is there
where build/peers/cutie is, and Ray Serve where build/peers/ray is; `--make` makes both with pip
(minutes, the network). A peer that is missing is named, and the status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.figures import ROOT, Row, describe_run, write_csv, write_table
from loadtests.peers.side_services import measure_services
from loadtests.plots import QualityPoint, plot_quality
from model.core.contract import SHIPPED_WEIGHTS
from service.commands.steady_session import cut_into_strips, scale_sample_footage
from service.errors import StartupError, TamvtError
from service.local.supervisor import read_last_line
from service.local.triton import KEEP_BLOCKS
from service.settings import read_settings

PEERS = ROOT / "build" / "peers"
QUALITY = Path(__file__).with_name("quality.toml")
STOP_S = 30.0
MADE = {
    "cutie": ("torch==2.13.0", "rf-cutie==1.0.1", "hydra-core>=1.3.2,<2"),
    "ray": ("ray[serve]==2.60.0", "-e", "clients/python", "-e", "."),
}


@dataclass(frozen=True, slots=True)
class Peer:
    """What tracks: in which Python, by which factory, with which words."""

    name: str  # quality.toml has it too
    python: Path
    factory: str
    words: tuple[str, ...] = ()


@dataclass(slots=True)
class PeerTimes:
    """Milliseconds a frame of each round, and those of the processor; or why there are none."""

    peer: Peer
    objects: int
    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    missing: str = ""

    def row(self, first: PeerTimes) -> Row:
        """Return the medians, and how many times faster the first one is, round by round."""
        if not self.ms:
            return {"peer": self.peer.name, "objects": self.objects, "ms a frame": self.missing}
        pairs = list(zip(self.ms, first.ms, strict=False))
        return {
            "peer": self.peer.name,
            "objects": self.objects,
            "ms a frame": round(statistics.median(self.ms), 2),
            "CPU ms": round(statistics.median(self.cpu_ms), 2),
            "frames/s": round(1000 / statistics.median(self.ms), 1),
            "times as long as the first": round(statistics.median(a / b for a, b in pairs), 2)
            if pairs
            else float("nan"),
        }


def list_peers(added: Sequence[str]) -> list[Peer]:
    """Return our served models in each runtime and clip length, Cutie, and what was added."""
    here, found = Path(sys.executable), list[Peer]()
    for model in read_settings().served_models:
        for runtime in ("onnxruntime", "openvino"):
            for length in (2, 1):
                name = f"{model}, {runtime}, clips of {length}"
                words = (model, runtime, str(length))
                ours = "loadtests.peers.ours:track"
                found.append(Peer(name, here, ours, words))
    cutie = "loadtests.peers.cutie_small:track"
    found.append(Peer("cutie-small", PEERS / "cutie/bin/python", cutie))
    return [*found, *map(read_peer, added)]


def read_peer(text: str) -> Peer:
    """Return a peer from NAME=PYTHON,MODULE:FACTORY[,WORD...]; end the program if it is none."""
    name, _, rest = text.partition("=")
    python, *words = rest.split(",")
    if not words or ":" not in words[0]:
        raise SystemExit(f"--peer {text}: NAME=PYTHON,MODULE:FACTORY[,WORD...]")
    return Peer(name, Path(python), words[0], tuple(words[1:]))


@contextmanager
def running_peer(peer: Peer, folder: Path, *, threads: int) -> Iterator[subprocess.Popen[str]]:
    """Run a peer that waits to be timed; raise StartupError with its last line if it cannot."""
    if not peer.python.exists():
        raise StartupError(f"not run: no environment at {peer.python} (--make)")
    log = folder / f"{peer.name}.log"
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    paths = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python")))
    own = {**KEEP_BLOCKS, **{name: str(count) for name, count in counts.items()}}
    words = [str(folder), peer.factory, str(threads), *peer.words]
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [str(peer.python), "-m", "loadtests.peers.timing", *words],
            cwd=ROOT,
            env={**os.environ, **own, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        if not any("ready" in line for line in process.stdout):
            raise StartupError(f"not run: {read_last_line(log)}")
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=STOP_S)


def time_frames(process: subprocess.Popen[str], frames: int, log: Path) -> Mapping[str, float]:
    """Return milliseconds of one of so many frames; raise StartupError if the peer has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{frames}\n")
        process.stdin.flush()
        found: dict[str, float] = json.loads(process.stdout.readline())
    except (OSError, ValueError) as error:
        raise StartupError(f"ended while it was timed: {read_last_line(log)}") from error
    return found


def time_peers(
    peers: Sequence[Peer],
    size: tuple[int, int],
    *,
    objects: int,
    threads: int,
    rounds: int,
    frames: int,
) -> list[PeerTimes]:
    """Return what each peer takes for a frame, measured in turns; the first round warms up."""
    found = [PeerTimes(peer, objects) for peer in peers]
    with tempfile.TemporaryDirectory(prefix="tamvt-peers-") as folder, ExitStack() as stack:
        write_footage(Path(folder), size, objects=objects)
        running: list[tuple[PeerTimes, subprocess.Popen[str]]] = []
        for times in found:
            try:
                peer = running_peer(times.peer, Path(folder), threads=threads)
                running.append((times, stack.enter_context(peer)))
            except TamvtError as error:
                times.missing = str(error)
        for number in range(rounds + 1):
            for times, process in running:
                if times.missing:
                    continue
                try:
                    taken = time_frames(process, frames, Path(folder) / f"{times.peer.name}.log")
                except TamvtError as error:
                    times.missing = str(error)
                    continue
                if number:
                    times.ms.append(taken["ms"])
                    times.cpu_ms.append(taken["cpu_ms"])
    return found


def write_footage(folder: Path, size: tuple[int, int], *, objects: int) -> None:
    """Write the built-in sample at this size (h, w) as arrays."""
    footage = scale_sample_footage(size)
    strips = cut_into_strips((footage.mask > 127).astype(np.uint8), objects)
    ids = np.arange(1, objects + 1, dtype=np.uint8)[:, None, None]
    labels: NDArray[np.uint8] = (ids * strips).max(axis=0)
    np.save(folder / "frames.npy", footage.frames)
    np.save(folder / "labels.npy", labels)


def read_quality(times: Sequence[PeerTimes]) -> tuple[list[QualityPoint], list[str]]:
    """Return a point for each peer whose quality is known, and sentences about the others."""
    known = tomllib.loads(QUALITY.read_text(encoding="utf-8"))
    points, said = list[QualityPoint](), list[str]()
    for each in times:
        entry = known.get(each.peer.name)
        if not each.ms or each.objects != 1:
            continue
        if entry is None or not is_of_these_weights(entry):
            said.append(f"{each.peer.name}: no quality is known, so that it is not in the plot")
            continue
        published = "weights" not in entry
        ms = statistics.median(each.ms)
        points.append(QualityPoint(each.peer.name, ms, entry["value"], published=published))
        said.append(f"{each.peer.name}: {entry['value']} {entry['what']} ({entry['source']})")
    return points, said


def is_of_these_weights(entry: Mapping[str, str]) -> bool:
    """Return whether a quality was measured with the weights that are shipped, or published."""
    if "weights" not in entry:
        return True
    card = (SHIPPED_WEIGHTS / "tamvt-mobile.runtimes.json").read_text(encoding="utf-8")
    return str(json.loads(card)["weights_sha256"]).startswith(entry["weights"])


def make_environments() -> None:
    """Make the environments of Cutie and of Ray, each with its pinned packages."""
    for name, packages in MADE.items():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEERS / name)], check=True)
        pip = [str(PEERS / name / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        if name == "cutie":  # torch alone and first, so that its CPU build is taken
            subprocess.run([*pip, packages[0]], cwd=ROOT, check=True)
        subprocess.run([*pip, *packages], cwd=ROOT, check=True)


def main(words: Sequence[str] | None = None) -> int:
    """Return 0, or 1 if a peer could not be run."""
    args = _parse(words)
    if args.make:
        make_environments()
    args.out.mkdir(parents=True, exist_ok=True)
    threads = args.threads or len(os.sched_getaffinity(0))
    about = ", ".join(describe_run().values())
    height, width = args.size
    text = [f"# Side by side\n\n{about}; {height}x{width}, {threads} threads, full memories"]
    times = [
        each
        for objects in args.objects
        for each in time_peers(
            list_peers(args.peer),
            args.size,
            objects=objects,
            threads=threads,
            rounds=args.rounds,
            frames=args.frames,
        )
    ]
    firsts = {each.objects: each for each in reversed(times)}
    rows = [each.row(firsts[each.objects]) for each in times]
    write_csv(args.out / "frames.csv", rows)
    points, said = read_quality(times)
    plot_quality(args.out / "quality.svg", points, about=about)
    text += [write_table(rows), "![Quality against time](quality.svg)", *(f"- {s}" for s in said)]
    missing = [each.peer.name for each in times if each.missing]
    if not args.no_services:
        table, unserved = measure_services(
            PEERS / "ray" / "bin" / "python", args.size, threads=threads, rounds=args.rounds
        )
        write_csv(args.out / "services.csv", table)
        text += ["## Behind a service, and when its process is killed", write_table(table)]
        text += [f"- {each}" for each in unserved]
        missing += unserved
    report = "\n\n".join(text) + "\n"
    (args.out / "report.md").write_text(report, encoding="utf-8")
    print(report)
    return 1 if missing else 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--size", default="256x448", help="HxW")
    parser.add_argument("--threads", type=int, default=0, help="of each; 0: all processors")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=20, help="of a round")
    parser.add_argument("--peer", action="append", default=[], help="one more")
    parser.add_argument("--make", action="store_true", help="environments of Cutie and Ray first")
    parser.add_argument("--no-services", action="store_true", help="leave Ray Serve out")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/side-by-side"))
    args = parser.parse_args(words)
    height, _, width = args.size.partition("x")
    args.size = (int(height), int(width))
    return args


if __name__ == "__main__":
    sys.exit(main())
