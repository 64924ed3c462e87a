"""A service of our own: it starts, keeps its sessions, says why it fails, and ends with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from service.errors import StartupError
from service.local.private_service import private_service
from tamvt_client import Client
from tests.support import scene
from tests.support.running import PATIENCE_S, ROOT

HOLD = """
import sys, time
from pathlib import Path
from service.local.private_service import private_service

with private_service(Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def settings(toy_folder: Path) -> dict[str, str]:
    return {"TAMVT_WEIGHTS": str(toy_folder), "TAMVT_MODEL": "toy", "TAMVT_ENGINE_THREADS": "1"}


def test_sessions_outlive_the_service(settings: dict[str, str], tmp_path: Path) -> None:
    with private_service(tmp_path, settings=settings) as url, Client(url) as client:
        session_id = client.start(scene.png(0), scene.mask()).session_id
    with private_service(tmp_path, settings=settings) as url, Client(url) as client:
        assert client.session(session_id).next_frame == 1


def test_it_is_gone_after_the_block(settings: dict[str, str], tmp_path: Path) -> None:
    with private_service(tmp_path, settings=settings) as url:
        assert httpx.get(f"{url}/readyz", timeout=PATIENCE_S).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/readyz", timeout=PATIENCE_S)


def test_what_is_set_for_a_public_service_is_not_for_it(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TAMVT_ACCESS__KEYS": str(tmp_path / "keys.json"),
        "TAMVT_OIDC__ISSUER": "https://issuer.example",
        "TAMVT_TENANTS__HEADER": "X-Tenant",
        "TAMVT_TLS_CERTIFICATE": str(tmp_path / "certificate.pem"),
        "TAMVT_REDIS__STATE": str(tmp_path / "elsewhere"),
    }.items():
        monkeypatch.setenv(name, value)
    with private_service(tmp_path / "state", settings=settings) as url, Client(url) as client:
        assert client.start(scene.png(0), scene.mask()).model == "toy"
    assert not (tmp_path / "elsewhere").exists()


def test_why_it_does_not_start_is_one_line(tmp_path: Path) -> None:
    nowhere = {"TAMVT_WEIGHTS": str(tmp_path / "nowhere")}
    with (
        pytest.raises(StartupError, match=r"did not start: no model .* does not exist$"),
        private_service(tmp_path / "state", settings=nowhere),
    ):
        pass


def test_a_service_that_is_not_ready_in_time_is_stopped(
    settings: dict[str, str], tmp_path: Path
) -> None:
    before = psutil.Process().children()
    with (
        pytest.raises(StartupError, match=r"not ready within 0\.05 s"),
        private_service(tmp_path, settings=settings, start_deadline_s=0.05),
    ):
        pass
    assert psutil.Process().children() == before


def test_it_ends_when_its_parent_is_killed(settings: dict[str, str], tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    url = parent.stdout.readline().strip()
    assert httpx.get(f"{url}/healthz", timeout=PATIENCE_S).status_code == 200
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=PATIENCE_S)
    until = time.monotonic() + PATIENCE_S
    while any(child.is_running() for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert [child for child in children if child.is_running()] == []
