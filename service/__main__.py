"""The command `tamvt`. Only the command that is asked for is imported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from service.errors import TamvtError

COMMANDS = {
    "serve": "run the service",
    "track": "track objects through a video or a folder of images",
    "demo": "start the service and track a sample through it",
    "triton": "serve the model with a Triton on this machine",
    "bench": "measure the engine on this machine",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 for an error that one line on stderr tells, 2 for a wrong call."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = _choose(words[:1])
    command = import_module(f"service.commands.{name}")
    parser = argparse.ArgumentParser(prog=f"tamvt {name}", description=COMMANDS[name])
    command.add_arguments(parser)
    arguments = parser.parse_args(words[1:])
    try:
        return int(command.run(arguments))
    except TamvtError as error:
        print(f"tamvt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _choose(words: Sequence[str]) -> str:
    """The command that is named; prints the help and leaves where none is."""
    listing = "\n".join(f"  {name:8}{meaning}" for name, meaning in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="tamvt",
        description="Tracks objects through video.",
        epilog=f"commands:\n{listing}\n\n`tamvt COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    return str(parser.parse_args(words).command)


if __name__ == "__main__":
    sys.exit(main())
