"""What the trials of images and GPUs start: where it dies one is told, and ports are free ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scripts.deploy.images import BuildStage, start_gateway
from scripts.deploy.smoke import server_on_path
from service.errors import Misconfigured, StartupError


def write_program(path: Path, text: str) -> None:
    """Write a shell script that can be run."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_triton_that_dies_is_told_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_program(tmp_path / "tritonserver", 'echo "$@"; echo "error: no such device"; exit 3')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with (
        pytest.raises(Misconfigured, match="status 3: error: no such device"),
        server_on_path(tmp_path),
    ):
        pass
    printed = capfd.readouterr().err
    ports = re.findall(r"--(?:grpc|metrics)-port=(\d+)", printed)
    assert len({*ports, "8001", "8002"}) == 4  # another Triton may be at home there


def test_a_gateway_of_an_image_that_dies_is_told_with_its_last_line(tmp_path: Path) -> None:
    command = ["sh", "-c", "pwd; echo tamvt: no Redis; exit 3", "0.0.0.0", "8000"]
    steps = [("CMD", json.dumps(command)), ("HEALTHCHECK", 'CMD ["true"]')]
    stage = BuildStage("gateway", "", steps, folder=tmp_path, workdir=tmp_path / "home")
    stage.workdir.mkdir()
    with pytest.raises(StartupError, match="no Redis"):
        start_gateway(stage)
    assert (tmp_path / "gateway.log").read_text().startswith(f"{stage.workdir}\n")


def test_a_gateway_of_an_image_is_asked_and_ends(tmp_path: Path) -> None:
    serve = "trap 'exit 0' TERM; echo listening on http://127.0.0.1:4321; sleep 600 & wait"
    probe = f"echo http://127.0.0.1:8000/healthz >{tmp_path}/asked"
    steps = [
        ("CMD", json.dumps(["sh", "-c", serve, "0.0.0.0", "8000"])),
        ("HEALTHCHECK", f"CMD {json.dumps(['sh', '-c', probe])}"),
    ]
    start_gateway(BuildStage("gateway", "", steps, folder=tmp_path, workdir=tmp_path))
    assert (tmp_path / "asked").read_text() == "http://127.0.0.1:4321/healthz\n"
