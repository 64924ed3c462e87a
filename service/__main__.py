"""The command `tamvt`. Only the command that is asked for is imported (decision 55)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any, NamedTuple

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.help import DefaultFormatter, PanelSpec
from rich.box import SIMPLE

from service.errors import TamvtError

SERVING = Group("Serve", sort_key=1)
TRACKING = Group("Track", sort_key=2)
MEASURING = Group("Measure", sort_key=3)
OTHERS = Group("Others", sort_key=4)


class Command(NamedTuple):
    """What the help tells of a command without importing it.

    `parts` are the names of its own commands, and of the functions that they run.
    """

    help: str
    group: Group
    examples: tuple[str, ...]
    parts: tuple[tuple[str, str], ...] = ()


COMMANDS = {
    "serve": Command(
        "run the service",
        SERVING,
        (
            "tamvt serve",
            "tamvt serve --config tamvt.toml --port 0",
            "tamvt serve --host 0.0.0.0 --keys keys.json",
        ),
    ),
    "triton": Command(
        "serve the model with a Triton on this machine",
        SERVING,
        ("tamvt-model export --triton models && tamvt triton models",),
    ),
    "keys": Command(
        "make, list and revoke API keys",
        SERVING,
        (
            "TAMVT_KEYS=keys.json tamvt keys create --tenant ann --expires 90d",
            "TAMVT_KEYS=keys.json tamvt keys list",
            "TAMVT_KEYS=keys.json tamvt keys revoke 1f0c8a7b2d3e",
        ),
        parts=(("create", "create"), ("list", "list_keys"), ("revoke", "revoke")),
    ),
    "doctor": Command(
        "look at an installation, and say what to do",
        SERVING,
        ("tamvt doctor", "tamvt doctor --config tamvt.toml --host 0.0.0.0"),
    ),
    "track": Command(
        "track objects through a video or a folder of images",
        TRACKING,
        (
            "tamvt track video.mp4 --mask first.png -o out --overlay",
            "tamvt track frames/ --mask 00000.png -o out --url http://127.0.0.1:8000",
            "tamvt track 0 --live 60 --click 320,240 -o out",
            "tamvt track rtsp://10.0.0.7/door --live 60 --allow-private --mask m.png -o out",
        ),
    ),
    "batch": Command(
        "track all videos of a manifest, and go on after a stop",
        TRACKING,
        (
            "tamvt batch videos.csv -o out",
            "tamvt batch videos.jsonl -o out --url http://127.0.0.1:8000 --shard 0/8",
        ),
    ),
    "convert": Command(
        "write masks in the format of another tool",
        TRACKING,
        (
            "tamvt convert masks.json --format cvat -o out",
            "tamvt convert out --format coco -o coco",
        ),
    ),
    "demo": Command(
        "start the service and track a sample through it",
        TRACKING,
        ("tamvt demo", "tamvt demo --video video.mp4 --mask first.png"),
    ),
    "top": Command(
        "watch tenants, frames, latency and queue of running gateways",
        MEASURING,
        ("tamvt top", "tamvt top http://10.0.0.1:8000 http://10.0.0.2:8000 --every 1"),
    ),
    "bench": Command(
        "measure the engine and the service on this machine",
        MEASURING,
        (
            "tamvt bench engine --objects 1 4 --clips 50",
            "tamvt bench engine --runtime onnxruntime openvino --clip-length 1 2",
            "tamvt bench service --json now.json --compare before.json",
            "tamvt bench soak --frames 10000 --sessions 2000",
        ),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, 1 for an error told in one line on stderr, 2 for a wrong call."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What cannot be printed, a file's name perhaps, must not cost what was done.
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    app = build_app()
    if not words:
        app.help_print([], console=app.error_console)
        return 2
    # Asked here, because the library would import every command to name those that there are.
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        print(f"tamvt: no command {words[0]}: there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return int(app(words, exit_on_error=False, print_error=False) or 0)
    except CycloptsError as error:
        chain = " ".join(("tamvt", *(error.command_chain or ())))
        print(f"{chain}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except TamvtError as error:
        print(f"tamvt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def build_app() -> App:
    """Return the command line with its help, `--version` and the completion of shells."""
    app = App(
        name="tamvt",
        help="Track objects through video.",
        help_epilogue="`tamvt COMMAND --help` tells more.",
        version=read_version,
        default_parameter=Parameter(negative=()),  # no --no-overlay beside --overlay
        group_commands=OTHERS,
        help_format="plaintext",
        help_formatter=DefaultFormatter(panel_spec=PanelSpec(box=SIMPLE, border_style="none")),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for name, command in COMMANDS.items():
        lines = "\n".join(f"  {example}" for example in command.examples)
        told: dict[str, Any] = {
            "help": command.help,
            "group": command.group,
            "help_epilogue": f"Examples:\n\n{lines}",
        }
        if not command.parts:
            app.command(f"service.commands.{name}:run", name=name, **told)
            continue
        own = app.command(App(name=name, **told))
        for part, function in command.parts:
            own.command(f"service.commands.{name}:{function}", name=part)
    app.register_install_completion_command(add_to_startup=False)
    return app


def read_version() -> str:
    """Return the version of the installed distribution."""
    from importlib.metadata import version

    return version("tamvt-serve")


if __name__ == "__main__":
    sys.exit(main())
