"""The project as others get it: the wheel, its extras, what the CI runs."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from loadtests.footprint import measure_packages_mb
from scripts.lock import LOCKS, NAMES

ROOT = Path(__file__).resolve().parents[1]
SKIPPING_TEST = "import pytest\n\ndef test_nothing():\n    pytest.skip('no time')\n"
# The graphs and weights of each model, and what each may take in the wheel.
MAX_WEIGHTS_BYTES = {
    "tamvt-mobile": 20_000_000,
    "stm-mobile": 8_000_000,
    "qmvos-mobile": 8_000_000,
    "stma-mobile": 8_000_000,
}
MAX_GATEWAY_MB = 520


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from this working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    return read_project(ROOT)


def read_project(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return table


def package_files() -> set[str]:
    """Every file of the two packages, and the page's client, as a wheel names it."""
    return {"service/web/tamvt.js"} | {
        path.relative_to(ROOT).as_posix()
        for folder in ("service", "model", "tamvt")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_its_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == package_files()


def test_the_wheel_carries_what_is_not_python(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    scripts = [name for name in names if name.startswith("service/store/lua/")]
    assert [name for name in scripts if name.endswith(".lua")]
    assert "model/core/pixels.py" in names
    assert {"service/web/index.html", "service/web/tamvt.js", "service/web/sample.webm"} <= set(
        names
    )
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.parametrize("name", MAX_WEIGHTS_BYTES)
def test_the_wheel_carries_the_shipped_models(wheel: zipfile.ZipFile, name: str) -> None:
    start = f"model/weights/{name}"
    files = [info for info in wheel.infolist() if info.filename.startswith(start)]
    ends = {info.filename.removeprefix(start) for info in files}
    assert {"_memorize.onnx", "_segment.onnx", ".weights"} <= ends
    assert sum(info.file_size for info in files) <= MAX_WEIGHTS_BYTES[name]


def test_both_commands_are_installed(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(name).decode()
    assert "tamvt = service.__main__:main" in text
    assert "tamvt-model = model.__main__:main" in text


def test_serving_installs_no_torch(project: dict[str, Any]) -> None:
    served = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    assert [line for line in served if line.startswith(("torch", "onnx>", "onnxscript"))] == []


def test_a_gateway_stays_small_without_extras(wheel: zipfile.ZipFile) -> None:
    own = sum(info.file_size for info in wheel.infolist()) / 1e6
    assert own + measure_packages_mb("tamvt-serve") < MAX_GATEWAY_MB


def test_every_dependency_has_both_bounds(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    assert [n for n in lines if not n.startswith("tamvt-") and not (">=" in n and "<" in n)] == []


def test_all_that_calls_the_service_pins_the_client_of_this_checkout() -> None:
    version = read_project(ROOT / "clients" / "python")["version"]
    folders = [ROOT, *(path.parent for path in (ROOT / "clients").glob("*/pyproject.toml"))]
    pins = {
        folder.relative_to(ROOT).as_posix(): [
            line for line in read_project(folder)["dependencies"] if line.startswith("tamvt-")
        ]
        for folder in folders
    }
    pinned = [f"tamvt-client=={version}"]
    callers = dict.fromkeys((".", "clients/cvat", "clients/label-studio"), pinned)
    assert pins == {"clients/python": [], **callers}


def test_the_locks_are_those_of_the_requirements() -> None:
    command = [sys.executable, "-m", "scripts.lock", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_locked_package_has_its_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    packages = re.findall(r"^([\w.-]+)==[^\n]*", text, re.MULTILINE)
    assert len(packages) > 4
    assert len(packages) == len(
        re.findall(r"^[\w.-]+==[^\n]* \\\n    --hash=sha256:", text, re.MULTILINE)
    )
    assert "torch" not in packages
    assert "://" not in text


@pytest.mark.parametrize("version", ["3.11.0", "3.12.0", "3.13.0"])
@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_what_its_packages_need_on_every_python(name: str, version: str) -> None:
    """pip-compile sees one Python; with hashes, pip installs nothing if another needs more."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    locked = {canonicalize_name(p) for p in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
    torch = {canonicalize_name("torch")} if "model" in LOCKS[name] else set()
    python = {"python_full_version": version, "python_version": version.rpartition(".")[0]}
    missing = {
        f"{distribution.name}: {need}"
        for distribution in distributions()
        if canonicalize_name(distribution.name) in locked | torch
        for need in map(Requirement, distribution.requires or [])
        if canonicalize_name(need.name) not in locked | torch
        if need.marker is None or need.marker.evaluate({**python, "extra": ""})
    }
    assert missing == set()


def test_setup_leaves_an_environment_alone_that_it_finds_through_a_link(tmp_path: Path) -> None:
    checkout, shared = tmp_path / "checkout", tmp_path / "shared"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", checkout / "scripts")
    shared.mkdir()
    (shared / "file").touch()
    (checkout / ".venv").symlink_to(shared)
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_NO_INDEX": "1"}
    command = [str(checkout / "scripts" / "setup"), "gateway"]
    run = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert run.returncode != 0  # there is nothing to install here
    assert [path.name for path in shared.iterdir()] == ["file"]
    assert (checkout / ".venv" / "bin" / "python").exists()
    assert not (checkout / ".venv").is_symlink()


def test_a_second_setup_in_a_checkout_waits_for_the_first(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with subprocess.Popen([script, "nothing"], stderr=subprocess.PIPE, text=True) as second:
        try:
            assert second.stderr is not None
            assert "waiting for another" in second.stderr.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(0.2)
            os.close(folder)
            assert "usage" in second.communicate(timeout=60)[1]
        finally:
            second.kill()


def test_the_changelog_names_this_version(project: dict[str, Any]) -> None:
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_ci_runs_the_checks_and_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert [n for n in script.read_text().splitlines() if n.startswith("make")] == [
        "make check",
        "make test",
    ]


def test_the_workflow_does_the_same_on_every_python() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.findall(r"- run: (make .*)", workflow) == ["make check", "make test"]
    assert re.findall(r'"(3\.\d+)"', workflow) == ["3.11", "3.12", "3.13"]


def test_a_skipped_test_fails_the_run(tmp_path: Path) -> None:
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "test_skipping.py").write_text(SKIPPING_TEST)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    run = subprocess.run(
        [*command, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "1 failed" in run.stdout
    assert "no time" in run.stdout
