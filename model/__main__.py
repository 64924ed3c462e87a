"""The command `tamvt-model`. Only the verb that is asked for is imported."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from model.errors import ModelError

COMMANDS = {
    "train": "train a model, or go on with a training that stopped",
    "data": "measure the clips that a recipe trains on, and draw some",
    "evaluate": "score a model on whole videos, by the metrics of DAVIS",
    "export": "write the two graphs that are served (--triton DIR: as a repository for it)",
    "ablate": "train the rows of the ablation table, and score them",
    "yardstick": "score a model on clips that are hard in one way each",
    "sweep": "score exported graphs at other memory sizes and clip lengths",
    "calibrate": "fit what tells lost objects, and keep it with the exported graphs",
    "confidence": "measure on lost and returning objects, with the memory gate and without",
    "bench": "time the exported graphs against the model as it is published",
    "visualize": "draw what a model sees",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that is named; return the exit status.

    It is 0, or 2 for a wrong call and for an error that one line on stderr tells, or what a verb
    says for itself.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = choose(words[:1])
    # What Triton serves is written from what was exported before, and needs no torch.
    wants_triton = name == "export" and any(word.startswith("--triton") for word in words)
    try:
        verb = import_module(f"model.commands.{'export_triton' if wants_triton else name}")
    except ModuleNotFoundError as error:
        print(f"tamvt-model {name} needs {error.name}: install the extra `model`", file=sys.stderr)
        return 1
    parser = argparse.ArgumentParser(prog=f"tamvt-model {name}", description=COMMANDS[name])
    verb.add_arguments(parser)
    arguments = parser.parse_args(words[1:])
    try:
        return int(verb.run(arguments))
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


def choose(words: Sequence[str]) -> str:
    """Return the verb that is named; print the help and leave where none is."""
    listing = "\n".join(f"  {name:11}{meaning}" for name, meaning in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="tamvt-model",
        description="Trains, scores, exports and times the model.",
        epilog=f"verbs:\n{listing}\n\n`tamvt-model VERB --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=COMMANDS, metavar="VERB")
    return str(parser.parse_args(words).verb)


if __name__ == "__main__":
    sys.exit(main())
