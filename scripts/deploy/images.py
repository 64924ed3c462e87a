"""Run each stage's steps of the Dockerfile in clean virtual environments, without Docker.

    python -m scripts.deploy.images [--stage gateway] ...

COPY, RUN, ENV and CMD are carried out in a folder instead of an image: the files that .dockerignore
lets through, the installs from the locks with their hashes, the export. Then the gateway is started
and its health check asked, the trainer's command run, and Triton's repository served by the wheel's
Triton. Minutes, and some GB. Not what Docker would do: Python is this machine's, users are not
made, and NVIDIA's image is a virtual environment.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.deploy.stack import START_S, STOP_S
from service.local.private_service import wait_for_address
from service.local.supervisor import start_child, stop_child

ROOT = Path(__file__).resolve().parents[2]
PLACES = re.compile(r"(?<![\w.}/-])/(opt/tamvt|src|models|runs|var/lib/tamvt|var/cache/tamvt)\b")
TARGETS = ("gateway", "trainer", "triton")


@dataclass
class BuildStage:
    """A stage of the Dockerfile, and the folder that stands for its file system."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    folder: Path = Path()
    workdir: Path = Path()
    environment: dict[str, str] = field(default_factory=dict)

    def place(self, text: str) -> str:
        """Return the text with the image's folders replaced by ours."""
        return PLACES.sub(lambda found: f"{self.folder}/{found[1]}", text)


def read_stages(text: str) -> dict[str, BuildStage]:
    """Return the stages of a Dockerfile by name, in their order."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: dict[str, BuildStage] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = BuildStage(name, base)
        elif stages:
            stages[name].steps.append((word, rest))
    return stages


def list_sent_files() -> list[str]:
    """Return what .dockerignore lets through."""
    return [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"]


def copy(stage: BuildStage, words: list[str], stages: dict[str, BuildStage]) -> None:
    """Carry out a COPY; raise FileNotFoundError for what the builder would not be sent."""
    *sources, target = [word for word in words if not word.startswith("--")]
    into = Path(stage.place(target)) if target.startswith("/") else stage.workdir / target
    for source in sources:
        if words[0].startswith("--from="):
            into.parent.mkdir(parents=True, exist_ok=True)
            # A virtual environment knows its place: it is led to, not moved.
            into.symlink_to(stages[words[0].removeprefix("--from=")].place(source))
            continue
        if not any(source == each or source.startswith(f"{each}/") for each in list_sent_files()):
            raise FileNotFoundError(f"COPY {source}: .dockerignore keeps it back")
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder = target.endswith("/") or len(sources) > 1
            (into if folder else into.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, into)


def run(stage: BuildStage, commands: str) -> None:
    """Carry out a RUN, without its users; raise CalledProcessError where a command fails."""
    for command in commands.split("&&"):
        words = shlex.split(command)
        if words[0] == "useradd":
            continue
        if words[:2] == ["install", "-d"]:
            for word in words[2:]:
                if word.startswith("/"):
                    Path(stage.place(word)).mkdir(parents=True, exist_ok=True)
            continue
        environment = {**os.environ, **stage.environment}
        environment.pop("PYTHONPATH", None)
        subprocess.run(
            ["bash", "-ec", stage.place(command)],
            cwd=stage.workdir,
            env=environment,
            check=True,
            stdout=sys.stderr,
        )


def build(stage: BuildStage, stages: dict[str, BuildStage], folder: Path) -> None:
    """Carry out the steps of a stage, after those of the stage that it stands on."""
    if stage.folder != Path():
        return
    stage.folder = stage.workdir = folder / stage.name
    stage.folder.mkdir()
    if stage.base in stages:
        base = stages[stage.base]
        build(base, stages, folder)
        stage.folder, stage.workdir = base.folder, base.workdir
        stage.environment = dict(base.environment)
    else:  # the Python, or Triton's, of the image
        subprocess.run([sys.executable, "-m", "venv", stage.folder / "python"], check=True)
        stage.environment["PATH"] = f"{stage.folder}/python/bin:{os.environ['PATH']}"
    for needed in re.findall(r"--from=(\w+)", str(stage.steps)):
        build(stages[needed], stages, folder)
    for word, rest in stage.steps:
        if word == "WORKDIR":
            stage.workdir = Path(stage.place(rest))
            stage.workdir.mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            copy(stage, shlex.split(rest), stages)
        elif word in {"ENV", "ARG"}:
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                value = value.replace("$PATH", stage.environment["PATH"])
                stage.environment[name] = stage.place(value)
        elif word == "RUN":
            run(stage, rest)


def read_command(stage: BuildStage, word: str) -> list[str]:
    """Return the words of a stage's CMD or HEALTHCHECK."""
    (text,) = (rest for name, rest in stage.steps if name == word)
    words: list[str] = json.loads(text[text.index("[") :])
    return words


def start_gateway(stage: BuildStage) -> None:
    """Start it as its CMD says, on loopback and a free port, and ask its health check."""
    words = read_command(stage, "CMD")
    words[words.index("0.0.0.0")], words[words.index("8000")] = "127.0.0.1", "0"
    environment = {**os.environ, **stage.environment}
    environment.pop("PYTHONPATH", None)
    log = stage.folder / "gateway.log"
    command = ["env", "-C", str(stage.workdir), *words]
    process = start_child(command, log=log, environment=environment)
    try:
        port = wait_for_address(process, log, deadline_s=START_S).rpartition(":")[2]
        probe = [word.replace(":8000", f":{port}") for word in read_command(stage, "HEALTHCHECK")]
        subprocess.run(probe, cwd=stage.workdir, env=environment, check=True, timeout=60)
    finally:
        stop_child(process, deadline_s=STOP_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)


def check(target: str, stages: dict[str, BuildStage], folder: Path) -> Iterator[str]:
    """Build a target, start what it is for, and yield what was right."""
    stage = stages[target]
    build(stage, stages, folder)
    yield f"{target}: its steps"
    environment = {**os.environ, **stage.environment}
    if target == "gateway":
        start_gateway(stage)
        yield "gateway: starts, and its health check answers"
    elif target == "trainer":
        environment.pop("PYTHONPATH", None)
        subprocess.run(
            read_command(stage, "CMD"), env=environment, check=True, stdout=subprocess.DEVNULL
        )
        yield "trainer: its command"
    else:
        python = stage.folder / "python" / "bin" / "python"
        subprocess.run([python, "-c", "import numpy, onnxruntime"], check=True)
        smoke = [sys.executable, "-m", "scripts.deploy.smoke", stage.place("/models")]
        subprocess.run(smoke, cwd=ROOT, check=True)
        yield "triton: its repository is served by a real Triton"


def main() -> int:
    """Return 0 where every step went well; a step that fails ends it with its error."""
    parser = argparse.ArgumentParser(description="Run the Dockerfile's steps without Docker.")
    parser.add_argument("--stage", choices=TARGETS, action="append", help="only this target")
    chosen = parser.parse_args().stage or TARGETS
    stages = read_stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="tamvt-images-") as folder:
        for target in chosen:
            for right in check(target, stages, Path(folder)):
                print(f"{right}: ok", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
