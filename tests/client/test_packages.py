"""The two clients as packages: what they need, and what they hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

CLIENTS = Path(__file__).resolve().parents[2] / "clients"
SERVER = {"fastapi", "starlette", "onnxruntime", "opencv-python-headless", "redis", "av", "torch"}
BLOCKED = ("cv2", "fastapi", "onnxruntime", "redis", "av", "torch", "service", "model")


def needed(names: set[str]) -> set[str]:
    """Return the packages that these need, and what those need, without extras."""
    found: set[str] = set()
    while names - found:
        name = (names - found).pop()
        found.add(name)
        try:
            lines = [line for line in requires(name) or () if "extra ==" not in line]
        except PackageNotFoundError:  # for another system
            continue
        names |= {re.split(r"[^\w.-]", line)[0].lower() for line in lines}
    return found


def test_the_python_client_installs_nothing_of_the_service() -> None:
    project = tomllib.loads((CLIENTS / "python" / "pyproject.toml").read_text())["project"]
    direct = {re.split(r"[^\w.-]", line)[0] for line in project["dependencies"]}
    assert "httpx" in direct
    assert needed(direct) & SERVER == set()


def test_the_python_client_imports_nothing_of_the_service() -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r})); import tamvt_client"
    environment = {"PYTHONPATH": ":".join([str(CLIENTS / "python"), *sys.path])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


def test_the_python_wheel_is_typed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=CLIENTS / "python", check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("tamvt_client-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert {"tamvt_client/__init__.py", "tamvt_client/py.typed"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tamvt_client"}


def test_the_npm_package_is_the_file_that_the_page_uses(tmp_path: Path) -> None:
    command = ["npm", "pack", "--json", "--offline", "--pack-destination", str(tmp_path)]
    run = subprocess.run(
        command, cwd=CLIENTS / "javascript", check=True, capture_output=True, timeout=60
    )
    assert b"tamvt.js" in run.stdout
    (archive,) = tmp_path.glob("tamvt-client-*.tgz")
    subprocess.run(["tar", "xzf", str(archive)], cwd=tmp_path, check=True, timeout=60)
    packed = {path.name for path in (tmp_path / "package").iterdir()}
    assert packed == {"package.json", "README.md", "tamvt.js"}
    source = (CLIENTS / "javascript" / "tamvt.js").read_bytes()
    assert (tmp_path / "package" / "tamvt.js").read_bytes() == source
    code = """import { decodeRle, encodeRle } from "tamvt-client";
        const rle = encodeRle(Uint8Array.of(0, 1, 1, 0), [2, 2]);
        console.log(JSON.stringify([...decodeRle(rle)]));"""
    node = ["node", "--input-type=module", "-e", code]
    shown = subprocess.run(
        node, cwd=tmp_path / "package", check=True, capture_output=True, timeout=60
    )
    assert json.loads(shown.stdout) == [0, 1, 1, 0]
