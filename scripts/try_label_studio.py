"""Try the ML backend behind a real Label Studio: `make test-label-studio`.

Label Studio is installed in an environment of its own (LABEL_STUDIO_ENV, by default
.state/label-studio), since it wants other versions of what the service uses. A project is made
over its API, the backend is connected, and what a person draws is sent as the editor does.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from service.local.supervisor import find_free_port
from tests.adapters.test_label_studio import (
    FRAMES,
    IMAGE_CONFIG,
    VIDEO_CONFIG,
    drawn_box,
    region,
)
from tests.support import scene
from tests.support.running import ROOT, running_service
from tests.support.toy_model import write_toy_model

VERSION = "1.23.2"
START_S = 1200.0  # it makes its database first
EMAIL = "somebody@example.org"


def main() -> None:
    """Run the check; raise where something is not as the backend promises."""
    environment = Path(os.environ.get("LABEL_STUDIO_ENV", ROOT / ".state" / "label-studio"))
    label_studio = installed(environment)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        write_toy_model(state)
        with (
            running_service(state=state / "service", weights=state) as service,
            running(label_studio, state / "studio") as (studio, token),
            backend(service.url, studio, token, state / "backend") as address,
        ):
            http = httpx.Client(
                base_url=studio, headers={"Authorization": f"Token {token}"}, timeout=120
            )
            with http:
                follow_a_box(http, address)
                point_at(http, address)
                stop(address)
    print("Label Studio tracks, points and is told what is wrong")


def installed(environment: Path) -> Path:
    """Return Label Studio's program, installed the first time."""
    program = environment / "bin" / "label-studio"
    if not program.exists():
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin" / "pip"), "install", "-q", f"label-studio=={VERSION}"]
        subprocess.run(pip, check=True)
    return program


@contextmanager
def running(program: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the address of a Label Studio with one user, and that user's token."""
    token, port = secrets.token_hex(20), find_free_port()
    folder.mkdir()
    words = [str(program), "start", "--no-browser", "--port", str(port), "--data-dir", str(folder)]
    words += ["--username", EMAIL, "--password", secrets.token_hex(8), "--user-token", token]
    settings = {
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # The backend is on this machine.
        "ML_BLOCK_LOCAL_IP": "false",
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_HOST": f"http://127.0.0.1:{port}",
    }
    with process(words, settings, folder / "log.txt") as url_ready:
        url_ready(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}", token


@contextmanager
def backend(service: str, studio: str, token: str, folder: Path) -> Iterator[str]:
    """Yield the address of the ML backend."""
    port = find_free_port()
    words = [sys.executable, "-m", "tamvt_label_studio", "--port", str(port), "--url", service]
    words += ["--state", str(folder)]
    settings = {"LABEL_STUDIO_URL": studio, "LABEL_STUDIO_API_KEY": token}
    folder.mkdir()
    with process(words, settings, folder / "log.txt") as url_ready:
        url_ready(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def process(words: list[str], settings: Mapping[str, str], log: Path) -> Iterator[Any]:
    """Run a program; yield what waits until an address of it answers."""
    path = os.pathsep.join(str(ROOT / p) for p in ("clients/python", "clients/label-studio"))
    environment = {**os.environ, **settings, "PYTHONPATH": path}
    with log.open("wb") as written:
        started = subprocess.Popen(words, stdout=written, stderr=written, env=environment)
        try:

            def wait(url: str) -> None:
                until = time.monotonic() + START_S
                while time.monotonic() < until and started.poll() is None:
                    try:
                        if httpx.get(url, timeout=5).status_code == 200:
                            return
                    except httpx.HTTPError:
                        pass
                    time.sleep(0.5)
                raise RuntimeError(f"{words[0]} did not start: {log.read_text()[-3000:]}")

            yield wait
        finally:
            started.terminate()
            started.wait(timeout=30)


def project(http: httpx.Client, config: str, address: str, name: str, content: bytes) -> int:
    """Return the only task of a new project, whose media is uploaded and whose backend is ours."""
    made = checked(http.post("/api/projects", json={"title": name, "label_config": config}))
    project_id = made["id"]
    files = {"file": (name, content)}
    checked(http.post(f"/api/projects/{project_id}/import", files=files))
    connection = {"url": address, "project": project_id, "is_interactive": True, "title": "TAM-VT"}
    connected = checked(http.post("/api/ml", json=connection))
    assert connected["state"] in ("CO", "connected"), connected
    tasks = checked(http.get("/api/tasks", params={"project": project_id}))["tasks"]
    (task,) = tasks
    http.headers["X-Backend"] = str(connected["id"])
    return int(task["id"])


def checked(answer: httpx.Response) -> Any:
    """Return the JSON of an answer that is well."""
    assert answer.is_success, f"{answer.request.url}: {answer.status_code} {answer.text[:2000]}"
    return answer.json()


def interact(http: httpx.Client, task: int, drawn: list[dict[str, Any]]) -> Any:
    """Return what Label Studio hands to the editor for what was drawn."""
    path = f"/api/ml/{http.headers['X-Backend']}/interactive-annotating"
    return checked(http.post(path, json={"task": task, "context": {"result": drawn}}))


def follow_a_box(http: httpx.Client, address: str) -> None:
    """Draw a box in a video, and get one for every frame; then be told what is wrong."""
    config = VIDEO_CONFIG.replace("$film", "$video")
    task = project(http, config, address, "square.mp4", scene.video(range(FRAMES)))
    answer = interact(http, task, [region(drawn_box(0))])
    (found,) = answer["data"]["result"]
    assert len(found["value"]["sequence"]) == FRAMES, found
    saved = checked(http.post(f"/api/tasks/{task}/annotations", json={"result": [found]}))
    assert len(saved["result"][0]["value"]["sequence"]) == FRAMES
    wrong = interact(http, task, [region()])
    assert "draw a box around each object first" in str(wrong["errors"]), wrong


def point_at(http: httpx.Client, address: str) -> None:
    """Click on an object in an image, and get a brush that Label Studio takes and gives back."""
    config = IMAGE_CONFIG.replace("$picture", "$image")
    task = project(http, config, address, "square.png", scene.png(0))
    click = {
        "id": "c",
        "type": "keypointlabels",
        "from_name": "click",
        "to_name": "image",
        "original_width": scene.WIDTH,
        "original_height": scene.HEIGHT,
        "value": {"x": 19, "y": 25, "width": 0.5, "keypointlabels": ["square"]},
    }
    (found,) = interact(http, task, [click])["data"]["result"]
    assert found["value"]["brushlabels"] == ["square"]
    checked(http.post(f"/api/tasks/{task}/annotations", json={"result": [found]}))


def stop(address: str) -> None:
    """Be told where the backend is asked for what it does not know."""
    assert httpx.post(f"{address}/fly", json={}).status_code == 404


if __name__ == "__main__":
    main()
