"""Where settings come from: flags, then variables, then a file. A wrong one is named."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from service.errors import Misconfigured
from service.settings.fields import PREFIX, Settings
from service.settings.groups import GROUPED, grouped_name

API_KEY: Final = "TAMVT_API_KEY"  # what `tamvt track --url` shows to the service
OTHERS: Final = frozenset(("TAMVT_DATA", API_KEY))  # read by other programs than the service
# What Kubernetes and Docker tell of a service that is called tamvt or tamvt-something.
SERVICE_LINK: Final = re.compile(r"TAMVT_(\w+_)?(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP))")
VARIABLES: Final[Mapping[str, str]] = {
    **{f"{PREFIX}{name.upper()}": name for name in Settings.model_fields},
    **{f"{PREFIX}{each.replace('.', '__').upper()}": name for each, name in GROUPED.items()},
}


def read_settings(
    config: Path | None = None, flags: Mapping[str, object] | None = None
) -> Settings:
    """Return the settings; raise Misconfigured, in one line, with each wrong one's name.

    `config` is a TOML file, `flags` are by the settings' names; None is a flag that is not given.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}  # how the operator named each setting
    given = {} if config is None else dict(_read_file(config))
    for name, (shown, value) in given.items():
        values[name], sources[name] = value, shown
    for variable, value in _read_environment():
        name = VARIABLES[variable.upper()]
        if sources.get(name, "").startswith(PREFIX) and values[name] != value:
            raise Misconfigured(f"{variable}: {sources[name]} is the same setting, and differs")
        values[name], sources[name] = value, variable
    for name, flag in (flags or {}).items():
        if flag is not None:
            values[name], sources[name] = flag, f"--{name.replace('_', '-')}"
    try:
        return Settings(**values)
    except ValidationError as error:
        wrong = (
            f"{sources.get(name := str(problem['loc'][0]), name)}: {problem['msg']}"
            if problem["loc"]
            else problem["msg"].removeprefix("Value error, ")  # it names the settings itself
            for problem in error.errors()
        )
        raise Misconfigured("; ".join(wrong)) from error


def environment_of(settings: Settings) -> dict[str, str]:
    """Return this process's environment with these settings, for a process that is to have them."""
    others = {name: value for name, value in os.environ.items() if name.upper() not in VARIABLES}
    own = {
        f"{PREFIX}{name.upper()}": str(getattr(settings, name))
        for name in sorted(settings.model_fields_set)
    }
    return {**others, **own}


def copy_environment_without(names: Collection[str]) -> dict[str, str]:
    """Return this process's environment without these settings, however it names them."""
    return {
        variable: value
        for variable, value in os.environ.items()
        if VARIABLES.get(variable.upper()) not in names
    }


def write_markdown_table() -> str:
    """Return the table of docs/operations.md, a row for each setting."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "empty" if field.default == "" else f"`{field.default}`"
        if name == "weights":  # a path of this machine
            default = "the shipped model"
        variable = f"`{PREFIX}{name.upper()}`"
        rows.append(f"| {variable} | `{grouped_name(name)}` | {default} | {field.description} |")
    head = ["| variable | in a file | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def _read_environment() -> Iterator[tuple[str, str]]:
    """Give the variables that are set and their values; raise Misconfigured for an unknown one."""
    known = {*VARIABLES, *OTHERS}
    for variable, value in sorted(os.environ.items()):
        is_address = variable.endswith("PORT") and value.startswith(("tcp://", "udp://"))
        is_link = SERVICE_LINK.match(variable) or is_address
        if not variable.startswith(PREFIX) or variable in OTHERS or is_link:
            continue
        if variable.upper() not in VARIABLES:
            near = get_close_matches(variable.upper(), known, n=1, cutoff=0)
            raise Misconfigured(f"{variable} is no setting; do you mean {near[0]}?")
        if value:  # an empty one is the default
            yield variable, value


def _read_file(path: Path) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Give the settings of a TOML file, how each is named there, and its value."""
    try:
        document = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"--config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"--config {path}: no TOML: {error}") from error
    for group, members in document.items():
        # A setting may also stand alone, by the name of its variable.
        named = (
            {f"{group}.{name}": value for name, value in members.items()}
            if isinstance(members, dict)
            else {group: members}
        )
        for shown, value in named.items():
            name = GROUPED.get(shown, shown)
            if name not in Settings.model_fields:
                near = get_close_matches(shown, {*GROUPED, *Settings.model_fields}, n=1, cutoff=0)
                raise Misconfigured(f"{path}: {shown} is no setting; do you mean {near[0]}?")
            if isinstance(value, list):
                value = ",".join(map(str, value))
            yield name, (f"{path}: {shown}", value)
