"""Print how well the house is kept: `python -m scripts.measure_house` (`make measure`).

Sizes of folders and functions, import circles, helpers with one caller, class names in two files,
and names that use a word which was replaced. docs/architecture.md keeps the figures and says what
each should be; tests/test_conventions.py holds those that hold.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import median, quantiles
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[1]
CODE = ("service", "model", "clients", "scripts", "loadtests")
MOST_LOOSE = {"service": 7, "model": 3}
MOST_IN_A_FOLDER = 23

# Invented words and the field's words that took their place. A name is checked in its parts.
REPLACED = {
    "burst": "clip pipeline",
    "conversation": "connection",
    "farewell": "close reason",
    "gone": "disconnected",
    "choice": "options",
    "arrival": "pending frame",
    "places": "quota",
    "notes": "tickets",
    "lookout": "ownership",
    "turns": "session locks",
    "hold": "reservation",
    "outline": "grabcut",
    "room": "storage",
    "soil": "mark dirty",
    "doom": "schedule removal",
    "doomed": "schedule removal",
    "kin": "same category",
    "presence": "confidence",
    "sight": "probability",
    "sighting": "by what it measures",
    "sightings": "by what they measure",
    "said": "probability",
    "judged": "classify",
    "returning": "reappearance",
    "worsened": "degraded",
    "verbs": "runtime",
    "plain": "reference",
    "processes": "distributed",
    "rollout": "unroll",
    "light": "checkpointed",
    "actor": "scene object",
    "actors": "scene objects",
    "stranger": "distractor",
    "strangers": "distractors",
    "curtain": "occluder",
    "card": "spec",
    "answers": "responses",
}
# Names in which such a word has its ordinary sense, each with the reason.
ALLOWED: Mapping[str, str] = {
    "_room_for_one_pin": "room among the pinned entries, not storage",
    "_returning": "a video in which an object leaves and returns",
    "returning": "a sample in which the object leaves and returns",
    "ActorPool": "actors of Ray",
    "VideoActor": "an actor of Ray",
    "count_actors": "actors of Ray",
    "ray_actors": "actors of Ray",
    "running_actors": "actors of Ray",
}

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    """Return the Python files below these folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text())


def show(path: Path) -> str:
    """Return the path as it is written in the repository."""
    return path.relative_to(ROOT).as_posix()


def functions(*folders: str) -> Iterator[tuple[Path, Function]]:
    """Yield every function and method with its file."""
    for path in python_files(*folders):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def loose_modules(folder: str) -> list[str]:
    """Return the modules that lie in the folder itself, not in one of its rooms."""
    return sorted(path.name for path in (ROOT / folder).glob("*.py"))


def modules_by_folder() -> Counter[str]:
    """Return how many modules each folder of the code holds, `__init__` left out."""
    files = (path for path in python_files(*CODE) if path.stem != "__init__")
    return Counter(show(path.parent) for path in files)


def module_name(path: Path) -> str:
    """Return the dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[2:] if parts[:2] == ("clients", "python") else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of what a file imports, wherever in the file."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_imports() -> dict[str, set[str]]:
    """Return which packages each package imports.

    A package is a folder with Python files. A loose module of `service` or `model` is one alone,
    and so is a registry, which stands above the rooms that it lists.
    """
    files = python_files("service", "model", "clients")
    package_of = {
        (name := module_name(path)): name
        if path.parent.name in MOST_LOOSE or path.stem == "registry"
        else module_name(path.parent / "__init__.py")
        for path in files
    }
    graph: dict[str, set[str]] = defaultdict(set)
    for path in files:
        package = package_of[module_name(path)]
        for name in imported(path):
            module = name if name in package_of else name.rpartition(".")[0]
            if module in package_of and package_of[module] != package:
                graph[package].add(package_of[module])
    return graph


def import_circles() -> list[tuple[str, ...]]:
    """Return the groups of packages that import each other, directly or through others."""
    graph = package_imports()

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for package in graph.get(waiting.pop(), set()) - seen:
                seen.add(package)
                waiting.append(package)
        return seen

    reached = {package: reach(package) for package in graph}
    groups = {
        tuple(sorted({other for other in reached[package] if package in reached.get(other, ())}))
        for package in graph
    }
    return sorted(group for group in groups if len(group) > 1)


def single_callers(folder: str) -> tuple[list[str], int]:
    """Return the private functions that are named once besides their definition, and of how many.

    Both are counted over the functions and methods of the folder.
    """
    named: dict[Path, Counter[str]] = {}
    for path in python_files(folder):
        walk = list(ast.walk(parse(path)))
        names = [node.id for node in walk if isinstance(node, ast.Name)]
        named[path] = Counter(names + [n.attr for n in walk if isinstance(n, ast.Attribute)])
    everything = list(functions(folder))
    single = [
        f"{show(path)}: {node.name}"
        for path, node in everything
        if node.name.startswith("_")
        and not node.name.startswith("__")
        and named[path][node.name] == 1
    ]
    return single, len(everything)


def repeated_classes() -> dict[str, list[str]]:
    """Return the class names that stand in more than one file, with the files."""
    places: dict[str, set[str]] = defaultdict(set)
    for path in python_files(*CODE):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(show(path))
    return {name: sorted(files) for name, files in sorted(places.items()) if len(files) > 1}


def words(name: str) -> list[str]:
    """Return the parts of a name, split at `_`, `-`, `.` and capitals, in lower case."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_\-.]+", " ", name)
    return spaced.lower().split()


def checked_names() -> Iterator[tuple[str, str]]:
    """Yield the names of files, classes, functions, metrics and settings, each with its file."""
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.stem, show(path)
                if path.suffix == ".js":
                    for name in re.findall(r"\b(?:function|class) (\w+)", path.read_text()):
                        yield name, show(path)
    for path in python_files(*CODE):
        settings = path == ROOT / "service" / "settings.py"
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, show(path)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if re.fullmatch(r"tamvt_\w+", node.value):
                    yield node.value, show(path)
            elif settings and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id, show(path)


def replaced_words() -> list[str]:
    """Return the names that use a replaced word, with their files and the word to use."""
    found = {
        f"{file}: {name} ({word}: {REPLACED[word]})"
        for name, file in checked_names()
        for word in words(name)
        if word in REPLACED and name not in ALLOWED
    }
    return sorted(found)


def function_lines(*folders: str) -> tuple[int, int, int]:
    """Return the median, the 90th percentile and the maximum of the functions' lines."""
    lines = [(node.end_lineno or 0) - node.lineno + 1 for _, node in functions(*folders)]
    return round(median(lines)), round(quantiles(lines, n=10)[-1]), max(lines)


def print_list(title: str, found: list[str]) -> None:
    """Print a count and what was counted, a line each."""
    print(f"{title}: {len(found)}")
    for line in found:
        print(f"    {line}")


def main() -> None:
    """Print every measure."""
    for folder, most in MOST_LOOSE.items():
        print(f"loose modules in {folder}/ (at most {most}): {len(loose_modules(folder))}")
    print(f"modules in a folder (at most {MOST_IN_A_FOLDER}), the largest five:")
    for folder, count in modules_by_folder().most_common(5):
        print(f"    {folder}: {count}")
    print_list("import circles between packages", [" <-> ".join(c) for c in import_circles()])
    for folder in ("service", "model"):
        single, count = single_callers(folder)
        share = f"{100 * len(single) / count:.1f} %"
        print(f"private functions with one caller in {folder}/ (at most 10 %): {share} of {count}")
    repeated = repeated_classes()
    print_list(
        "class names in two files", [f"{name}: {', '.join(at)}" for name, at in repeated.items()]
    )
    print_list("names with a replaced word", replaced_words())
    for folder in ("service", "model", "clients"):
        middle, ninetieth, largest = function_lines(folder)
        print(f"lines of functions in {folder}/ (8 / 30 / 70): {middle} / {ninetieth} / {largest}")


if __name__ == "__main__":
    main()
