"""The command `tamvt-model`. Only the command that is asked for is imported (decision 55)."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from typing import NamedTuple

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.help import DefaultFormatter, PanelSpec
from rich.box import SIMPLE

from model.errors import ModelError

TRAINING = Group("Train", sort_key=1)
SCORING = Group("Score", sort_key=2)
SERVING = Group("Make ready to serve", sort_key=3)
MEASURING = Group("Measure and draw", sort_key=4)
OTHERS = Group("Others", sort_key=5)


class ModelCommand(NamedTuple):
    """What the help tells of a command without importing it."""

    help: str
    group: Group
    examples: tuple[str, ...]


COMMANDS = {
    "train": ModelCommand(
        "train a model, or go on with a training that stopped",
        TRAINING,
        (
            "tamvt-model train tamvt-mobile -o runs/mobile --steps 20000",
            "tamvt-model train tamvt-mobile -o runs/mobile --resume",
            "tamvt-model train prompt -o runs/prompt",
        ),
    ),
    "data": ModelCommand(
        "measure the samples that a recipe trains on, and draw some (or render clips)",
        TRAINING,
        (
            "tamvt-model data tamvt-mobile -o sheet.png",
            "tamvt-model data render -o rendered --clips 300 --seed 1",
        ),
    ),
    "ablate": ModelCommand(
        "train the rows of the ablation table, and score them",
        TRAINING,
        ("tamvt-model ablate -o runs/ablations --rows full,center --seeds 1,2",),
    ),
    "evaluate": ModelCommand(
        "score a model on whole videos, by the metrics of DAVIS",
        SCORING,
        (
            "tamvt-model evaluate -o report",
            "tamvt-model evaluate --weights runs/a/last.pt runs/b/last.pt",
            "tamvt-model evaluate --predictions masks/ --videos dog camel",
        ),
    ),
    "yardstick": ModelCommand(
        "score a model on clips that are hard in one way each",
        SCORING,
        ("tamvt-model yardstick --sets twins dark -o scores.json",),
    ),
    "compare": ModelCommand(
        "score and time several models side by side: one table, one plot",
        SCORING,
        ("tamvt-model compare model/weights runs/graphs -o compared --sets dev twins",),
    ),
    "sweep": ModelCommand(
        "score exported graphs at other memory sizes and clip lengths",
        SCORING,
        ("tamvt-model sweep -o sweep --memory-sizes 3,5,9 --clip-lengths 1,2",),
    ),
    "confidence": ModelCommand(
        "measure on lost and returning objects, with the memory gate and without",
        SCORING,
        ("tamvt-model confidence --clips 40 -o report",),
    ),
    "export": ModelCommand(
        "write the two graphs that are served (--triton DIR: as a repository for it)",
        SERVING,
        (
            "tamvt-model export tamvt-mobile --weights runs/mobile/last.pt -o graphs",
            "tamvt-model export prompt --weights runs/prompt/last.pt -o graphs",
            "tamvt-model export --triton models --from graphs",
        ),
    ),
    "calibrate": ModelCommand(
        "fit what tells lost objects (or, `calibrate loop`, how the loop runs), and keep it",
        SERVING,
        (
            "tamvt-model calibrate loop runs/mobile/last.pt",
            "tamvt-model calibrate tamvt-mobile --graphs graphs",
        ),
    ),
    "bench": ModelCommand(
        "time the exported graphs against the published model (`bench gpu`: what a GPU serves)",
        MEASURING,
        (
            "tamvt-model bench --rounds 3",
            "tamvt-model bench --train tamvt-mobile --memory",
            "tamvt-model bench gpu --json gpu.json",
        ),
    ),
    "visualize": ModelCommand(
        "draw what a model sees",
        MEASURING,
        ("tamvt-model visualize time rows --weights last.pt -o pictures",),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that is named; return the exit status.

    It is 0, or 2 for a wrong call and for an error that one line on stderr tells, or what a command
    says for itself.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What cannot be printed, a file's name perhaps, must not cost what was done.
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    app = build_app(words)
    if not words:
        app.help_print([], console=app.error_console)
        return 2
    name = words[0]
    # Asked here, because the library would import every command to name those that there are.
    if not name.startswith("-") and name not in COMMANDS:
        print(f"tamvt-model: no command {name}: there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        if name in COMMANDS:
            import_module(module_of(name, words))
    except ModuleNotFoundError as error:
        print(f"tamvt-model {name} needs {error.name}: install the extra `model`", file=sys.stderr)
        return 1
    try:
        return int(app(words, exit_on_error=False, print_error=False) or 0)
    except CycloptsError as error:
        chain = " ".join(("tamvt-model", *(error.command_chain or ())))
        print(f"{chain}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except ModelError as error:
        print(f"tamvt-model {name}: {error}", file=sys.stderr)
        return error.exit_status
    except ValueError as error:  # the core knows no error of ours: what it raises are ValueErrors
        if not type(error).__module__.startswith("model.core."):
            raise
        print(f"tamvt-model {name}: {error}", file=sys.stderr)
        return ModelError.exit_status
    except FileNotFoundError as error:
        print(f"tamvt-model: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def build_app(words: Sequence[str] = ()) -> App:
    """Return the command line with its help, `--version` and the completion of shells.

    What is called decides which module reads a command that has several, as `train` and `bench`.
    """
    app = App(
        name="tamvt-model",
        help="Train, score, export and time the model.",
        help_epilogue="`tamvt-model COMMAND --help` tells more.",
        version=lambda: version("tamvt-serve"),
        # No --no-raw beside --raw; of an option that is repeated the last one counts.
        default_parameter=Parameter(negative=(), allow_repeating=True),
        group_commands=OTHERS,
        help_format="plaintext",
        help_formatter=DefaultFormatter(panel_spec=PanelSpec(box=SIMPLE, border_style="none")),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for name, command in COMMANDS.items():
        lines = "\n".join(f"  {example}" for example in command.examples)
        app.command(
            f"{module_of(name, words)}:run",
            name=name,
            help=command.help,
            group=command.group,
            help_epilogue=f"Examples:\n\n{lines}",
        )
    app.register_install_completion_command(add_to_startup=False)
    return app


def module_of(name: str, words: Sequence[str]) -> str:
    """Return the module of a command when it is called with these words."""
    if name == "data" and "render" in words[1:2]:
        name = "data_render"
    # What Triton serves is written from what was exported before, and needs no torch.
    if name == "export" and any(word.startswith("--triton") for word in words):
        name = "export_triton"
    if name == "calibrate" and "loop" in words[1:2]:
        name = "calibrate_loop"
    if name == "bench" and "gpu" in words[1:2]:
        name = "bench_gpu"
    if name in ("train", "export") and "prompt" in words[1:2]:
        name = f"{name}_prompt"
    return f"model.commands.{name}"


if __name__ == "__main__":
    sys.exit(main())
