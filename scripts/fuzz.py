"""Attack the decoders and parsers, and a running service, with changed inputs.

Each parser runs in a process of its own, so that a crash or a hang names its input. Then a real
service, with a Redis behind it, gets changed requests, streams of changed messages, requests made
of its OpenAPI description, and random walks of sessions through kills of the gateway. A 500, a
hang, a crash, or memory, descriptors, tasks or children that grow are faults.

    python -m scripts.fuzz                                         # 5,000 inputs for each, minutes
    python -m scripts.fuzz --seed 7 --only "mask image" --first 803 --inputs 1  # one input again

Everything follows from the seed. The input of a fault is kept in `runs/fuzz`.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import psutil

from tests.faults.gateways import Gateway
from tests.fuzz.attacked import attacked_service
from tests.fuzz.calls import attack_rest
from tests.fuzz.openapi import attack_operations
from tests.fuzz.parsers import DEADLINE_S, PARSERS, Fault, Parser, Tally, attack
from tests.fuzz.streams import attack_streams
from tests.fuzz.vitals import GROWTH_MB, check_growth, look, warm_up
from tests.fuzz.walks import Walk

FOLDER: Final = Path("runs") / "fuzz"
WARM_UP: Final = 5_000  # inputs until memory may not grow any more; half of them if they are fewer
STREAM_SHARE: Final = 5  # one stream, of several messages, for so many inputs
OPERATION_SHARE: Final = 50
WALK_SHARE: Final = 1_000
WALK_STEPS: Final = 40
ON_SERVICE: Final = ("REST and streams", "OpenAPI", "sessions")


def main() -> int:
    """Return 0 if no fault was found."""
    options = _options()
    numbers = range(options.first, options.first + options.inputs)
    os.environ["OPENCV_LOG_LEVEL"] = "SILENT"  # of the children, which read what is damaged
    print("| parser | inputs | refused | accepted | slowest |\n|---|---|---|---|---|", flush=True)
    faults = 0
    for parser in PARSERS:
        if options.only in parser.name:
            faults += not fuzz_parser(parser, options.seed, numbers)
    chosen = [name for name in ON_SERVICE if options.only in name]
    if chosen:
        with tempfile.TemporaryDirectory() as folder, attacked_service(Path(folder)) as gateway:
            faults += fuzz_service(gateway, chosen, options.seed, numbers)
    print(f"\n{faults} faults with seed {options.seed}")
    return min(faults, 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=5_000, help="of each parser")
    parser.add_argument("--only", default="", help="what has this in its name in the table")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    return parser.parse_args()


def fuzz_parser(parser: Parser, seed: int, numbers: range) -> bool:
    """Print the parser's row and return True, or its fault and False."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_feed, args=(parser, seed, numbers, send))
    child.start()
    send.close()
    number = numbers.start
    try:
        while receive.poll(10 * DEADLINE_S):
            told = receive.recv()
            if isinstance(told, int):
                number = told
            elif isinstance(told, Tally):
                print(told.row(), flush=True)
                return True
            else:
                return _report(parser.name, seed, number, parser.input(seed, number), told)
        reason = "no end"
    except EOFError:
        child.join()
        reason = f"the process ended with {child.exitcode}"
    finally:
        child.kill()
        child.join()
    return _report(parser.name, seed, number, parser.input(seed, number), reason)


def _feed(parser: Parser, seed: int, numbers: range, send: Connection) -> None:
    """Feed a parser its inputs, in the child: tell each number before, and what came of all."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libraries complain there
    logging.disable()
    tally = Tally(parser.name)
    warm = min(WARM_UP, len(numbers) // 2)
    before = 0.0
    try:
        for number in numbers:
            send.send(number)
            attack(parser, seed, tally, number)
            if tally.inputs == warm:
                before = psutil.Process().memory_info().rss
        grown = (psutil.Process().memory_info().rss - before) / 1e6
        send.send(tally if not before or grown <= GROWTH_MB else f"{grown:.0f} MB more")
    except Fault as fault:
        send.send(str(fault))


def _report(name: str, seed: int, number: int, data: bytes, reason: str) -> bool:
    """Keep the input, say how it is run again, and return False."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name.replace(' ', '-').replace(':', '')}-{seed}-{number}"
    path.write_bytes(data)
    print(f"\nFAULT in {name}, input {number} ({path}): {reason}")
    print(f"again: make fuzz ARGS='--seed {seed} --only \"{name}\" --first {number} --inputs 1'\n")
    return False


def fuzz_service(gateway: Gateway, chosen: list[str], seed: int, numbers: range) -> int:
    """Print a row for each attack and return the number of faults."""
    warm = numbers[: min(WARM_UP, len(numbers) // 2)]
    operations = max(1, len(numbers) // OPERATION_SHARE)

    def attack_by_rest(tally: Tally) -> None:
        attack_rest(gateway.url, seed, warm, tally)
        warm_up(gateway)
        before = look(gateway)
        attack_rest(gateway.url, seed, numbers[len(warm) :], tally)
        attack_streams(gateway.url, seed, numbers[::STREAM_SHARE], streams)
        after = check_growth(gateway, before)
        print(streams.row())
        print(f"after {len(warm):,} inputs: {before}; at the end: {after}", file=sys.stderr)

    streams = Tally("streams")
    attacks: dict[str, Callable[[Tally], None]] = {
        "REST and streams": attack_by_rest,
        "OpenAPI": lambda tally: attack_operations(gateway.url, seed, operations, tally),
        "sessions": lambda tally: walk_sessions(gateway, seed, numbers, tally),
    }
    faults = 0
    for name in chosen:
        tally = Tally(name.partition(" ")[0])
        try:
            attacks[name](tally)
            print(tally.row(), flush=True)
        except Fault as fault:
            faults += not _report(fault.parser, seed, fault.number, fault.data, str(fault))
        except Exception as error:  # schemathesis' own, or what a walk found to be different
            faults += 1
            print(f"\nFAULT in {name}, seed {seed}: {type(error).__name__}: {error}\n")
    return faults


def walk_sessions(gateway: Gateway, seed: int, numbers: range, tally: Tally) -> None:
    """Walk sessions through one step in so many inputs; raise Fault with the steps so far."""
    for number in numbers[::WALK_SHARE]:
        walk = Walk(gateway, f"{seed} walk {number}", tally)
        try:
            walk.run(WALK_STEPS)
        except Exception as error:
            trace = "\n".join(walk.trace).encode()
            reason = f"{type(error).__name__}: {error}"
            raise Fault(tally.name, number, trace, reason) from error


if __name__ == "__main__":
    sys.exit(main())
