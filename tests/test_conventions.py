"""What a reviewer would say twice: sizes, words, directions of imports, true documents."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import draw_architecture, draw_concepts, draw_models, measure_house, mutants
from service.errors import StartupError
from service.problems import KINDS
from service.settings import write_markdown_table

ROOT = Path(__file__).resolve().parents[1]
SOURCE_FOLDERS = ("service", "model", "clients", "tests", "loadtests", "scripts")
MAX_FILE_LINES = 400
MAX_ONE_FILE_LINES = {"clients/javascript/tamvt.js": 460}  # it is copied as one (decision 42)
MAX_FUNCTION_LINES = 60
WRITTEN_SUFFIXES = {".py", ".lua", ".js", ".css", ".html", ".md", ".toml", ".yml", ".yaml", ".sh"}
WRITTEN_NAMES = {"Makefile", "Dockerfile", "setup", "run"}

IMPORT_ALL_OF_THE_SERVICE = """
import importlib, pkgutil, sys

sys.modules.update(torch=None, onnx=None, onnxscript=None)  # importing one of them now fails
import model.core
import service

for package in (service, model.core):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
"""


def python_files() -> Iterator[Path]:
    yield from ROOT.glob("*.py")
    for folder in SOURCE_FOLDERS:
        yield from (ROOT / folder).rglob("*.py")


def written_files() -> Iterator[Path]:
    """Every file that somebody wrote: code, documents, scripts."""
    folders = (*SOURCE_FOLDERS, "docs", "deploy", ".ci")
    for path in [*ROOT.glob("*"), *(p for folder in folders for p in (ROOT / folder).rglob("*"))]:
        if path.is_file() and (path.suffix in WRITTEN_SUFFIXES or path.name in WRITTEN_NAMES):
            yield path


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports_of(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_service_starts_without_torch() -> None:
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL_OF_THE_SERVICE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_importing_the_service_reads_no_torch() -> None:
    code = "import service.__main__, sys; sys.exit('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert run.returncode == 0


def test_the_core_needs_numpy_and_image_libraries_only() -> None:
    allowed = {"numpy", "cv2", "PIL", *sys.stdlib_module_names}
    foreign = {
        f"{shown(path)}: {name}"
        for path in (ROOT / "model" / "core").rglob("*.py")
        for name in imports_of(path)
        if name.split(".")[0] not in allowed and not f"{name}.".startswith("model.core.")
    }
    assert foreign == set()


def test_the_error_tree_imports_nothing() -> None:
    used = {name.split(".")[0] for name in imports_of(ROOT / "service" / "errors.py")}
    assert used <= sys.stdlib_module_names


def test_files_fit_on_a_few_screens() -> None:
    long = {
        f"{shown(path)}: {lines}"
        for path in written_files()
        if path.suffix in {".py", ".lua", ".js", ".css"}
        if (lines := len(path.read_text().splitlines()))
        > MAX_ONE_FILE_LINES.get(shown(path), MAX_FILE_LINES)
    }
    assert long == set()


def test_functions_fit_on_one_screen() -> None:
    long = {
        f"{shown(path)}: {node.name}"
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    }
    assert long == set()


@pytest.mark.parametrize("folder", ["service", "model"])
def test_a_half_keeps_its_modules_in_rooms(folder: str) -> None:
    assert len(measure_house.loose_modules(folder)) <= measure_house.MOST_LOOSE[folder]


def test_no_folder_is_a_hall() -> None:
    halls = measure_house.modules_by_folder().most_common(1)
    assert halls[0][1] <= measure_house.MOST_IN_A_FOLDER, halls


def test_packages_do_not_import_each_other_in_a_circle() -> None:
    assert measure_house.import_circles() == []


@pytest.mark.parametrize("folder", ["service", "model", "clients"])
def test_most_functions_are_short(folder: str) -> None:
    middle, ninetieth, _ = measure_house.function_lines(folder)
    assert (middle <= 8, ninetieth <= 30) == (True, True)


@pytest.mark.parametrize("folder", ["service", "model"])
def test_few_functions_are_private_with_one_caller(folder: str) -> None:
    single, count = measure_house.single_callers(folder)
    assert len(single) <= count / 10, single


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("_open_streams", ["open", "streams"]),
        ("HTTPBurstError", ["http", "burst", "error"]),
        ("tamvt-bank.gone", ["tamvt", "bank", "gone"]),
        ("TAMVT_MAX_PLACES", ["tamvt", "max", "places"]),
    ],
)
def test_names_are_checked_word_by_word(name: str, parts: list[str]) -> None:
    assert measure_house.words(name) == parts


def test_no_leftovers() -> None:
    # MobileNetV2's own name is no leftover, nor is that of PyTorch's function.
    leftover = re.compile(
        r"(?<!mobilenet)(?<!tensor)_v\d\b|_(legacy|old|backup)\b|\b(TODO|FIXME|XXX)\b"
    )
    found = {
        f"{shown(path)}: {match.group()}"
        for path in written_files()
        if path != Path(__file__).resolve()
        for match in leftover.finditer(path.read_text())
    }
    vague = {shown(path) for path in python_files() if path.stem in {"utils", "misc", "helpers"}}
    assert found | vague == set()


def test_no_path_of_somebodys_machine() -> None:
    machine = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/")
    found = {shown(path) for path in written_files() if machine.search(path.read_text())}
    assert found == set()


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        target
        for path in written_files()
        if path.suffix == ".md"
        for target in re.findall(
            r"(?:^|`|\s\w+=\S+ )make ([a-z-]+)", path.read_text(), re.MULTILINE
        )
    }
    assert {"demo", "test"} <= named <= targets


def test_every_target_is_phony_and_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):.*?(## \w.*)?$", makefile, flags=re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    assert {name for name, _ in targets} == set(phony.group(1).split())
    assert [name for name, help_text in targets if not help_text] == []


def test_links_between_documents_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)[^)]*\)")
    dead = {
        f"{shown(path)}: {target}"
        for path in written_files()
        if path.suffix == ".md"
        for target in link.findall(path.read_text())
        if not (path.parent / target).exists()
    }
    assert dead == set()


def test_the_indexes_name_every_document() -> None:
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    pages |= {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/decisions/README.md"}
    readmes = [
        path for room in ("deploy", "loadtests") for path in (ROOT / room).rglob("README.md")
    ]
    pages |= {shown(path) for path in readmes}
    for index in (ROOT / "README.md", ROOT / "docs" / "README.md"):
        named = {
            (index.parent / target).resolve()
            for target in re.findall(r"\]\((?!\w+:)([^)#]+)", index.read_text())
        }
        missing = {page for page in pages if ROOT / page not in {*named, index}}
        assert missing == set(), shown(index)


def test_every_picture_of_the_documents_is_shown() -> None:
    shown_somewhere = "".join(path.read_text() for path in written_files() if path.suffix == ".md")
    pictures = [path.name for path in (ROOT / "docs" / "images").iterdir()]
    assert [name for name in pictures if f"images/{name}" not in shown_somewhere] == []


def test_the_drawn_architecture_is_current() -> None:
    drawn = (ROOT / "docs" / "images" / "architecture.svg").read_text()
    assert drawn == draw_architecture.draw()


@pytest.mark.parametrize("name", draw_models.PICTURES)
def test_the_drawn_models_are_current(name: str) -> None:
    drawn = (ROOT / "docs" / "images" / f"model-{name}.svg").read_text()
    assert drawn == draw_models.draw(name)


def test_the_drawn_concepts_are_current() -> None:
    assert draw_concepts.MEMORY.read_text() == draw_concepts.draw_memory()
    assert draw_concepts.BANK.read_text() == draw_concepts.draw_bank()
    assert draw_concepts.SCORES.read_text() == draw_concepts.draw_scores()


def test_no_new_name_uses_a_replaced_word() -> None:
    assert measure_house.replaced_words() == []


def test_a_class_name_stands_in_one_file() -> None:
    assert measure_house.repeated_classes() == {}


def test_every_setting_is_documented() -> None:
    assert write_markdown_table() in (ROOT / "docs" / "operations.md").read_text()


def test_every_problem_is_documented() -> None:
    answered = {kind.slug for error, kind in KINDS.items() if not issubclass(error, StartupError)}
    named = re.findall(r"^\| \d+ \| `([a-z-]+)`", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert set(named) == answered


def decisions() -> list[Path]:
    """The records of decisions, without their index."""
    return sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [int(path.name[:4]) for path in decisions()]
    assert len(set(numbers)) == len(numbers)
    titles = [path.read_text().partition("\n")[0] for path in decisions()]
    assert [title.partition(". ")[0] for title in titles] == [f"# {n}" for n in numbers]


@pytest.mark.parametrize("heading", ["## Context", "## Decision", "## Consequences"])
def test_a_decision_says_why(heading: str) -> None:
    assert [path.name for path in decisions() if heading not in path.read_text()] == []


def test_a_decision_has_a_date_and_a_status() -> None:
    line = re.compile(
        r"Date: \d{4}-\d\d-\d\d\. Status: (accepted(, amended by \d+)?|superseded by (\d+))\."
    )
    numbers = {int(path.name[:4]) for path in decisions()}
    for path in decisions():
        found = line.fullmatch(path.read_text().splitlines()[2])
        assert found is not None, path.name
        assert {int(number) for number in re.findall(r"\d+", found[1])} <= numbers, path.name


def test_the_index_lists_every_decision() -> None:
    row = "| {} | [{}]({}) | {} | {} |"
    wanted = []
    for path in decisions():
        title, _, status, *_ = path.read_text().splitlines()
        number, _, name = title.removeprefix("# ").partition(". ")
        date, _, state = status.removeprefix("Date: ").rstrip(".").partition(". Status: ")
        wanted.append(row.format(number, name, path.name, date, state))
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    rows = [line for line in index.splitlines() if re.match(r"\| \d", line)]
    assert [re.sub(r"[^|]*\|$", "", line).rstrip() for line in rows] == wanted


def test_code_names_decisions_that_are_in_force() -> None:
    kept = {
        path.name[:4].lstrip("0") for path in decisions() if "Status: accepted" in path.read_text()
    }
    unknown = {
        f"{shown(path)}: {number}"
        for path in [*python_files(), *(ROOT / "service").rglob("*.lua")]
        if path != Path(__file__).resolve()
        for number in re.findall(r"\bdecision (\d+)", path.read_text())
        if number not in kept
    }
    assert unknown == set()


def test_every_mutation_still_has_its_place() -> None:
    """`make mutants` applies them: each text stands once in its file, each test is there."""
    listed = mutants.read_mutations()
    names = [mutation.name for mutation in listed]
    assert len(set(names)) == len(names) >= 60
    wrong = []
    for mutation in listed:
        try:
            mutation.apply((ROOT / mutation.file).read_text())
        except (OSError, mutants.MutationError) as error:
            wrong.append(f"{mutation.name}: {error}")
        for test in mutation.tests:
            file, _, name = test.partition("::")
            path = ROOT / file
            if not path.is_file() or (name and f"def {name}(" not in path.read_text()):
                wrong.append(f"{mutation.name}: there is no test {test}")
    assert wrong == []
