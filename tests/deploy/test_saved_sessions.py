"""Sessions outlive the loss of their Redis: what a backup holds goes on with the same masks."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.deploy.backup import copy_files, save
from scripts.deploy.check import ROOT
from service.errors import Misconfigured, StoreUnavailable
from tests.faults.gateways import gateways
from tests.faults.sending import append, start
from tests.support.redis_servers import running_redis, wait_until
from tests.support.running import PATIENCE_S, Api

BACKUP = (sys.executable, "-m", "scripts.deploy.backup")


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*BACKUP, *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_session_goes_on_from_a_copy(tmp_path: Path, toy_folder: Path, api: Api) -> None:
    """As in the runbook: save while it works, lose the disk, restore, send on from `expected`."""
    data, backup, address = tmp_path / "redis", tmp_path / "backup", tmp_path / "url"
    with running_redis(data) as redis:
        address.write_text(redis.url)
        address.chmod(0o600)
        with gateways(1, toy_folder, redis_url=redis.url) as (gateway,):
            session = start(gateway.url)
            told: list[Any] = append(gateway.url, session, range(1, 5)).json()["frames"]
            saved = run("save", address, data, backup)
            assert saved.returncode == 0, saved.stderr
            assert "keys in" in saved.stdout
            append(gateway.url, session, range(5, 9))  # lost with the disk
        with redis.client() as client:
            assert client.config_get("auto-aof-rewrite-percentage") == {
                "auto-aof-rewrite-percentage": "100"
            }
    restored = run("restore", backup, tmp_path / "next")
    assert restored.returncode == 0, restored.stderr
    with (
        running_redis(tmp_path / "next") as redis,
        gateways(1, toy_folder, redis_url=redis.url) as (gateway,),
    ):
        refused = append(gateway.url, session, range(9, 10))
        assert (refused.status_code, refused.json()["expected"]) == (409, 5)
        told += append(gateway.url, session, range(5, 9)).json()["frames"]
    alone = start(str(api.http.base_url))
    url = str(api.http.base_url).rstrip("/")
    expected = [
        mask
        for numbers in (range(1, 5), range(5, 9))
        for mask in append(url, alone, numbers).json()["frames"]
    ]
    assert told == expected


def test_a_copy_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "appendonly.aof").write_bytes(b"*1\r\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(Misconfigured, match="is not empty"):
        copy_files(tmp_path / "data", tmp_path / "full")
    with pytest.raises(Misconfigured, match="no append-only file"):
        copy_files(tmp_path / "full", tmp_path / "other")


def test_a_copy_that_no_redis_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    manifest = tmp_path / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    (tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(b"nonsense\r\n" * 9)
    refused = run("restore", tmp_path, tmp_path / "next")
    assert refused.returncode == 1
    assert "no Redis can read the backup: " in refused.stderr
    assert "Bad file format" in refused.stderr
    assert not (tmp_path / "next").exists()


def test_a_redis_that_says_nothing_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreUnavailable, match="Timeout"):
            save(url, tmp_path / "data", tmp_path / "backup", answer_s=0.1)
    assert not (tmp_path / "backup").exists()


def test_a_person_can_be_erased(tmp_path: Path, toy_folder: Path) -> None:
    """As in the runbook: after DELETE and a rewrite the file holds nothing of the session."""
    data = tmp_path / "redis"

    def is_on_disk(session: str) -> bool:
        files = (path for path in data.rglob("*") if path.is_file())
        return any(session.encode() in path.read_bytes() for path in files if path.suffix != ".log")

    with (
        running_redis(data) as redis,
        gateways(1, toy_folder, redis_url=redis.url) as (gateway,),
        redis.client() as client,
    ):
        session = start(gateway.url)
        append(gateway.url, session, range(1, 3))
        assert is_on_disk(session)
        answer = httpx.delete(f"{gateway.url}/v1/sessions/{session}", timeout=PATIENCE_S)
        assert answer.status_code == 204
        client.bgrewriteaof()
        wait_until(lambda: not is_on_disk(session), what="a rewritten file")
