"""`tamvt serve` as a process: how it starts, how it says that it cannot, how it ends."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest

from service.commands.serve import listen
from service.settings import Settings
from tests.support import scene
from tests.support.running import PATIENCE_S, ROOT, Api, problem, run_tamvt, running_service


def fail_to_serve(*arguments: str, settings: Mapping[str, str]) -> str:
    """The one line on stderr of a service that cannot start."""
    done = run_tamvt("serve", *arguments, settings=settings)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def settings(tmp_path: Path, toy_folder: Path) -> dict[str, str]:
    """Settings under which the service starts, with a copy of the model that may be broken."""
    weights = tmp_path / "weights"
    shutil.copytree(toy_folder, weights)
    return {
        "TAMVT_WEIGHTS": str(weights),
        "TAMVT_MODEL": "toy",
        "TAMVT_STATE": str(tmp_path / "state"),
    }


def without_graph(settings: dict[str, str]) -> None:
    (Path(settings["TAMVT_WEIGHTS"]) / "toy_segment.onnx").unlink()


def without_weights(settings: dict[str, str]) -> None:
    (Path(settings["TAMVT_WEIGHTS"]) / "toy.weights").unlink()


def with_other_weights(settings: dict[str, str]) -> None:
    weights = Path(settings["TAMVT_WEIGHTS"]) / "toy.weights"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")


def without_redis(settings: dict[str, str]) -> None:
    settings["TAMVT_REDIS_URL"] = "redis://127.0.0.1:1"


def with_a_wrong_setting(settings: dict[str, str]) -> None:
    settings["TAMVT_THREADS"] = "many"


def with_a_file_as_state(settings: dict[str, str]) -> None:
    Path(settings["TAMVT_STATE"]).write_text("")


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (without_graph, "toy_segment.onnx"),
        (without_weights, "toy.weights"),
        (with_other_weights, "toy"),
        (without_redis, "TAMVT_REDIS_URL"),
        (with_a_wrong_setting, "TAMVT_THREADS"),
        (with_a_file_as_state, "TAMVT_STATE"),
    ],
)
def test_a_service_that_cannot_start_says_why_in_one_line(
    settings: dict[str, str], break_it: Callable[[dict[str, str]], None], word: str
) -> None:
    break_it(settings)
    line = fail_to_serve("--port", "0", settings=settings)
    assert line.startswith("tamvt: ")
    assert word in line


def test_a_port_that_is_taken_is_named(settings: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in fail_to_serve("--port", port, settings=settings)


def test_an_answer_does_not_wait_for_an_acknowledgement() -> None:
    with (
        listen("127.0.0.1", 0, Settings()) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_it_says_one_line_when_it_is_ready(tmp_path: Path, toy_folder: Path) -> None:
    with running_service(state=tmp_path, weights=toy_folder) as running:
        assert httpx.get(f"{running.url}/readyz", timeout=PATIENCE_S).status_code == 200
        running.process.terminate()
        said, _ = running.process.communicate(timeout=PATIENCE_S)
        assert (said, running.process.returncode) == ("", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_and_takes_its_redis_along(
    tmp_path: Path, toy_folder: Path, number: signal.Signals
) -> None:
    with running_service(state=tmp_path, weights=toy_folder) as running:
        running.process.send_signal(number)
        assert running.process.wait(timeout=PATIENCE_S) == 0
    assert not (tmp_path / "redis.sock").exists()


def test_a_request_in_flight_is_finished_on_shutdown(tmp_path: Path, toy_folder: Path) -> None:
    with (
        running_service(state=tmp_path, weights=toy_folder) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE_S) as http,
    ):
        session = Api(http).start()
        image = scene.jpeg(1)
        head = (
            f"POST /v1/sessions/{session}/clips?first_frame=1 HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
        )
        address = (httpx.URL(running.url).host, httpx.URL(running.url).port)
        with socket.create_connection(address, PATIENCE_S) as wire:
            wire.sendall(head.encode() + image[:100])
            while "tamvt_requests_in_flight 2.0" not in http.get("/metrics").text:
                time.sleep(0.02)  # that one, and this one
            running.process.terminate()
            time.sleep(0.2)
            wire.sendall(image[100:])
            assert wire.recv(10_000).startswith(b"HTTP/1.1 200 ")
        assert running.process.wait(timeout=PATIENCE_S) == 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_session_outlives_the_service(
    tmp_path: Path, toy_folder: Path, end: signal.Signals
) -> None:
    images = [scene.jpeg(number) for number in range(1, 7)]
    with (
        running_service(state=tmp_path, weights=toy_folder) as first,
        httpx.Client(base_url=first.url, timeout=PATIENCE_S) as http,
    ):
        api = Api(http)
        undisturbed, session = api.start(), api.start()
        api.append(undisturbed, images, first=1)
        api.append(session, images[:4], first=1)
        before = api.state(session)
        first.process.send_signal(end)
        first.process.wait(timeout=PATIENCE_S)
    with (
        running_service(state=tmp_path, weights=toy_folder) as second,
        httpx.Client(base_url=second.url, timeout=PATIENCE_S) as http,
    ):
        api = Api(http)
        assert api.state(session) == before
        assert api.append(session, images[2:4], first=3).headers["idempotent-replay"] == "true"
        api.append(session, images[4:], first=5)
        assert api.masks(session).json() == api.masks(undisturbed).json()


def test_limits_are_settings(tmp_path: Path, toy_folder: Path) -> None:
    settings = {
        "TAMVT_MAX_APPEND_FRAMES": "2",
        "TAMVT_MAX_OBJECTS": "1",
        "TAMVT_MAX_VIDEO_FRAMES": "3",
        "TAMVT_MAX_FRAME_BYTES": "100000",
    }
    with (
        running_service(state=tmp_path, weights=toy_folder, settings=settings) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE_S) as http,
    ):
        api = Api(http)
        two = api.post_start(("frame", scene.png(0)), ("mask", scene.mask(objects=2)))
        session = api.start()
        many = api.append(session, [scene.jpeg(1)] * 3, first=1)
        long = api.post_append(session, ("video", scene.video(range(1, 6))), first_frame=1)
        large = api.append(session, [scene.jpeg(1) + bytes(100_000)], first=1)
        assert problem(two) == (422, "too-many-objects")
        assert problem(many) == (413, "too-many-frames")
        assert problem(long) == (413, "too-many-frames")
        assert problem(large) == (413, "too-large")


def test_a_session_expires_when_its_settings_say_so(tmp_path: Path, toy_folder: Path) -> None:
    settings = {"TAMVT_SESSION_TTL_S": "1"}
    with (
        running_service(state=tmp_path, weights=toy_folder, settings=settings) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE_S) as http,
    ):
        session = Api(http).start()
        time.sleep(1.2)
        assert problem(http.get(f"/v1/sessions/{session}")) == (404, "unknown-session")


def test_the_service_runs_without_torch() -> None:
    code = "import sys, service.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_command_lists_its_commands() -> None:
    done = run_tamvt("--help", settings={"COLUMNS": "80"})
    assert all(f"  {name} " in done.stdout for name in ("serve", "track", "demo", "bench"))


def test_an_unknown_command_is_a_wrong_call() -> None:
    assert run_tamvt("fly").returncode == 2
