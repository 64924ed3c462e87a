"""Write the locks of requirements/: every dependency with its version and hashes.

    python -m scripts.lock [NAME]...  write them anew, all or these
    python -m scripts.lock --check    say which are not those of the two pyproject.toml

torch is not among them: its CPU build is served under a local version that no hash of the index
knows. `scripts/setup` and the Dockerfile install it first, pinned by its version. Neither are the
two packages of this repository, which are installed from their paths.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = (ROOT / "pyproject.toml", ROOT / "clients" / "python" / "pyproject.toml")
LOCKS = {
    "gateway": ("demo", "openvino", "otel", "redis", "triton"),
    "trainer": ("model",),
    "development": ("demo", "dev", "model", "openvino", "otel", "ray", "redis", "render", "triton"),
}
# What stands in environments of its own: dependency groups of pyproject.toml.
GROUPS = ("deploy", "backend", "checkov", "loadtests")
NAMES = (*LOCKS, *GROUPS)
OWN = ("tamvt-client", "tamvt-serve", "torch")
# What no resolver on this Python sees: redis needs async-timeout before Python 3.11.3.
ALWAYS = ("async-timeout>=4.0.3,<6",)
# What torch needs and nothing else asks for: it would be installed without a hash.
OF_TORCH = ("filelock>=3.20,<5", "fsspec>=2025.12,<2027")


def requirements(name: str) -> list[str]:
    """Return what a lock is made of: a dependency group, or extras and what they hide."""
    if name in GROUPS:
        projects = [tomllib.loads(path.read_text(encoding="utf-8")) for path in PROJECTS]
        needed = set(projects[0]["dependency-groups"][name])
        if any(line.startswith("tamvt-client") for line in needed):  # imported from its path
            needed |= set(projects[1]["project"]["dependencies"])
        return sorted(line for line in needed if not line.startswith(OWN))
    extras = LOCKS[name]
    needed = {*ALWAYS, *(OF_TORCH if "model" in extras else ())}
    for path in PROJECTS:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        optional = project.get("optional-dependencies", {})
        groups = [project["dependencies"], *(optional.get(extra, []) for extra in extras)]
        needed |= {line for group in groups for line in group}
    package = re.compile(r"^[\w.-]+")
    return sorted(line for line in needed if package.match(line)[0] not in OWN)  # type: ignore[index]


def digest(name: str) -> str:
    """Return what a lock says it was made of."""
    return hashlib.sha256("\n".join(requirements(name)).encode()).hexdigest()[:16]


def write_lock(name: str) -> None:
    """Resolve a lock's requirements with pip-compile, and write it with hashes."""
    target = ROOT / "requirements" / f"{name}.txt"
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"{name}.in"
        source.write_text("\n".join(requirements(name)) + "\n", encoding="utf-8")
        words = ("--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-annotate")
        quiet = ("--quiet", "--no-header", "--no-emit-index-url", "--no-emit-find-links")
        options = (*words, *quiet, "--no-emit-trusted-host", "--no-emit-options")
        command = [sys.executable, "-m", "piptools", "compile", *options, str(source)]
        done = subprocess.run(
            [*command, "--output-file", "-"], cwd=folder, check=True, capture_output=True, text=True
        )
    header = f"# Made by `make lock` from the two pyproject.toml, digest {digest(name)}.\n"
    target.write_text(header + done.stdout, encoding="utf-8")


def is_current(name: str) -> bool:
    """Return whether a lock was made of what is required now."""
    path = ROOT / "requirements" / f"{name}.txt"
    return path.is_file() and f"digest {digest(name)}." in path.read_text(encoding="utf-8")


def main() -> int:
    """Return 0, or 1 where `--check` finds a lock that is not current."""
    parser = argparse.ArgumentParser(description="Write the locks of requirements/.")
    parser.add_argument("--check", action="store_true", help="only say which are not current")
    parser.add_argument("names", nargs="*", help="locks to write", metavar="NAME")
    words = parser.parse_args()
    if unknown := set(words.names) - set(NAMES):
        parser.error(f"no lock {', '.join(unknown)}: there are {', '.join(NAMES)}")
    if not words.check:
        for name in words.names or NAMES:
            write_lock(name)
            print(f"requirements/{name}.txt")
        return 0
    old = [name for name in NAMES if not is_current(name)]
    for name in old:
        print(f"requirements/{name}.txt is not current: make lock", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
