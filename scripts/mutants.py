"""Break the code in one place at a time, and see that the tests which guard the place notice.

`scripts/mutants.toml` lists the mutations. Each is applied in a temporary copy of the tree, never
in the tree itself, and the tests that it names run there: one of them must fail. First those
tests run on a copy that nothing was changed in, for a test that always fails guards nothing.

    python -m scripts.mutants                  # all of them
    python -m scripts.mutants --only retention # those with this word in their name or file
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "scripts" / "mutants.toml"
AT_ONCE = 2  # more would only make tests late that wait for something
DEADLINE_S = 300.0
FAILED = 1  # pytest's code for "tests ran, and some failed"
SHOWN_LINES = 30


class MutationError(Exception):
    """A mutation that cannot be applied, or tests that cannot run."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one file, and the tests of which at least one must fail with it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, source: str) -> str:
        """Return the source with the change; MutationError unless its place is there once."""
        found = source.count(self.old)
        if found != 1:
            raise MutationError(f"{self.file} holds the text {found} times: {self.old.strip()!r}")
        return source.replace(self.old, self.new)


def read_mutations(path: Path = LIST) -> tuple[Mutation, ...]:
    """Return the listed mutations, in order."""
    tables = tomllib.loads(path.read_text())["mutant"]
    return tuple(Mutation(**{**table, "tests": tuple(table["tests"])}) for table in tables)


def copy_tree(target: Path) -> None:
    """Copy what git knows or would add, as it is now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        source = ROOT / name
        if source.is_file() and not source.is_relative_to(ROOT / ".venv"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    # Some tests ask git which files there are.
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    for name in (".venv", "data"):
        if (ROOT / name).exists():
            (target / name).symlink_to((ROOT / name).resolve())


def run_tests(tree: Path, tests: Sequence[str], *, deadline_s: float) -> tuple[int | None, str]:
    """Return pytest's exit code, None past the deadline, and what it printed."""
    # Bytecode is trusted by size and second: a mutation of the same length would not be seen.
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "clients" / "python")]),
    }
    options = ["-q", "-x", "-p", "no:cacheprovider", "--no-header"]
    with (tree / "pytest.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=tree,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
        log.seek(0)
        return code, log.read()


def judge(mutation: Mutation, tree: Path, *, deadline_s: float) -> tuple[bool, str]:
    """Return whether the tests kill the mutation, and the verdict in words."""
    path = tree / mutation.file
    source = path.read_text()
    path.write_text(mutation.apply(source))
    try:
        code, text = run_tests(tree, mutation.tests, deadline_s=deadline_s)
    finally:
        path.write_text(source)
    if code == FAILED:
        return True, "killed"
    if code == 0:
        return False, f"SURVIVED: {', '.join(mutation.tests)} pass with it"
    reason = f"past {deadline_s:g} s" if code is None else f"pytest ended with {code}"
    return False, f"NO VERDICT, {reason}:\n{last_lines(text)}"


def last_lines(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()[-SHOWN_LINES:])


@contextmanager
def trees(count: int) -> Iterator[queue.SimpleQueue[Path]]:
    """Yield so many copies of the tree, in a queue to take them from and put them back."""
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="tamvt-mutants-") as folder:
        for number in range(count):
            tree = Path(folder) / str(number)
            tree.mkdir()
            copy_tree(tree)
            free.put(tree)
        yield free


def check_baseline(mutations: Sequence[Mutation], tree: Path) -> None:
    """Raise MutationError unless the tests pass where nothing was changed."""
    tests = list(dict.fromkeys(test for mutation in mutations for test in mutation.tests))
    code, text = run_tests(tree, tests, deadline_s=DEADLINE_S + 30 * len(tests))
    if code != 0:
        raise MutationError(f"the tests fail without any mutation:\n{last_lines(text)}")


def try_all(mutations: Sequence[Mutation], *, at_once: int, deadline_s: float) -> list[str]:
    """Return the names of those that were not killed; print a line about each."""
    bad: list[str] = []
    with trees(at_once) as free, ThreadPoolExecutor(at_once) as pool:
        tree = free.get()
        check_baseline(mutations, tree)
        free.put(tree)

        def try_one(mutation: Mutation) -> None:
            tree = free.get()
            begun_s = time.monotonic()
            try:
                killed, verdict = judge(mutation, tree, deadline_s=deadline_s)
            finally:
                free.put(tree)
            print(f"{mutation.name} ({time.monotonic() - begun_s:.0f} s): {verdict}", flush=True)
            if not killed:
                bad.append(mutation.name)

        list(pool.map(try_one, mutations))
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description="Break the code, and see that tests notice.")
    parser.add_argument("--only", default="", metavar="WORD", help="in the name or the file")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, choices=range(1, AT_ONCE + 1))
    parser.add_argument("--deadline", type=float, default=DEADLINE_S, metavar="SECONDS")
    options = parser.parse_args()
    chosen = [m for m in read_mutations() if options.only in m.name or options.only in m.file]
    if not chosen:
        sys.exit(f"no mutation has {options.only!r} in its name or file")
    try:
        for mutation in chosen:
            mutation.apply((ROOT / mutation.file).read_text())
        bad = try_all(chosen, at_once=options.at_once, deadline_s=options.deadline)
    except MutationError as error:
        sys.exit(str(error))
    print(f"{len(chosen) - len(bad)} of {len(chosen)} killed")
    if bad:
        sys.exit("not killed: " + "; ".join(bad))


if __name__ == "__main__":
    main()
