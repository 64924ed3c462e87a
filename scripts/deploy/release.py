"""Build what is published, and install each in an empty environment, as a user would.

    python -m scripts.deploy.release [--output dist]

Both wheels and their sources, and the npm tarball. Checks: the version is the same everywhere;
the wheels' metadata read; `tamvt-client` alone installs, imports and holds nothing of the service;
the gateway installs from its lock with hashes, `pip check` finds nothing, `tamvt --version` is
right, and a real service tracks its sample; the npm package installs and its RLE goes round.
Minutes: it installs everything anew.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUND_TRIP = """import { decodeRle, encodeRle } from "tamvt-client";
const rle = encodeRle(Uint8Array.of(0, 1, 1, 0), [2, 2]);
if ([...decodeRle(rle)].join() !== "0,1,1,0") process.exit(1);"""
IMPORT = """import sys, tamvt_client
from importlib.metadata import version
assert version("tamvt-client") == sys.argv[1]
assert tamvt_client.Client and not {"service", "model", "torch", "fastapi"} & set(sys.modules)"""


def run(*words: str | Path, cwd: Path = ROOT) -> str:
    """Return what a command prints; raise CalledProcessError with it where it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TAMVT_"))}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def build(output: Path) -> None:
    """Build the wheels, their sources and the npm tarball."""
    hatch = (sys.executable, "-m", "hatchling", "build", "-d")
    for folder in (ROOT, ROOT / "clients" / "python"):
        run(*hatch, output, cwd=folder)
    pack = ("npm", "pack", "--silent", "--pack-destination", output)
    run(*pack, cwd=ROOT / "clients" / "javascript")


def make_environment(folder: Path) -> Path:
    """Make a virtual environment and return its folder of programs."""
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin"


def check(output: Path, folder: Path) -> Iterator[str]:
    """Install everything that was built, and yield what was right."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    client = output / f"tamvt_client-{version}-py3-none-any.whl"
    service = output / f"tamvt_serve-{version}-py3-none-any.whl"
    tarball = output / f"tamvt-client-{version}.tgz"
    sources = [output / f"tamvt_{name}-{version}.tar.gz" for name in ("client", "serve")]
    missing = [path.name for path in (client, service, tarball, *sources) if not path.is_file()]
    if missing:
        raise FileNotFoundError(", ".join(missing))
    yield f"{version}: two wheels, their sources and a tarball"

    programs = make_environment(folder / "client")
    run(programs / "pip", "install", "--quiet", client)
    run(programs / "pip", "check")
    run(programs / "python", "-c", IMPORT, version, cwd=folder)
    yield "tamvt-client in an empty environment"

    programs = make_environment(folder / "service")
    lock = ROOT / "requirements" / "gateway.txt"
    run(programs / "pip", "install", "--quiet", "--require-hashes", "-r", lock)
    run(programs / "pip", "install", "--quiet", "--no-deps", client, service)
    run(programs / "pip", "check")
    told = run(programs / "tamvt", "--version", cwd=folder).strip()
    if told != version:
        raise ValueError(f"tamvt --version says {told}")
    run(programs / "tamvt", "demo", "--sample", "coffee", cwd=folder)
    yield "tamvt-serve in an empty environment, and its service tracks the sample"

    (folder / "npm").mkdir()
    run("npm", "install", "--silent", "--offline", "--no-audit", tarball, cwd=folder / "npm")
    run("node", "--input-type=module", "-e", ROUND_TRIP, cwd=folder / "npm")
    yield "the npm package in an empty folder"


def main() -> int:
    """Return 0 where all was right; what fails ends it with its error."""
    parser = argparse.ArgumentParser(description="Build and try what is published.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    output = parser.parse_args().output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    build(output)
    with tempfile.TemporaryDirectory(prefix="tamvt-release-") as folder:
        for right in check(output, Path(folder)):
            print(f"{right}: ok", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
