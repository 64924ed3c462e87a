"""A real service in a process of its own, and a client of it that uses none of our code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

from tests.support import scene

ROOT = Path(__file__).resolve().parents[2]
# The longest a test waits for what usually takes a second: only a hang takes longer.
PATIENCE_S = 60.0
Parts = list[tuple[str, tuple[str, bytes]]]
Run = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Running:
    """A service that is ready: its address and its process."""

    url: str
    process: subprocess.Popen[str]


def tamvt(*arguments: str) -> list[str]:
    """Return the command line of `tamvt` under this Python."""
    return [sys.executable, "-m", "service", *arguments]


def run_tamvt(
    *arguments: str, settings: Mapping[str, str] | None = None, timeout_s: float = 200
) -> Run:
    """Run `tamvt` with these arguments and return its exit code and output."""
    return subprocess.run(
        tamvt(*arguments),
        cwd=ROOT,
        env=environment(settings or {}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, with these settings of the service only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAMVT_")}
    own = {"TAMVT_ENGINE_THREADS": "1", "TAMVT_RUNTIME": "onnxruntime"}
    return {**kept, **own, **settings}


@contextmanager
def running_service(
    *,
    state: Path,
    weights: Path,
    settings: Mapping[str, str] | None = None,
    stderr: IO[str] | None = None,
    workers: int = 1,
) -> Iterator[Running]:
    """Serve the toy model on a free port until the end of the block; its log goes to `stderr`."""
    own = {"TAMVT_STATE": str(state), "TAMVT_WEIGHTS": str(weights), "TAMVT_MODEL": "toy"}
    process = subprocess.Popen(
        tamvt("serve", "--port", "0", "--workers", str(workers)),
        cwd=ROOT,
        env=environment({**own, **(settings or {})}),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http"), line
        yield Running(url=line.split()[-1], process=process)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


class Api:
    """Calls of the REST interface, written with httpx alone."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def start(self, *, objects: int = 1, **options: object) -> str:
        """Start a session on the drawn video and return its id."""
        answer = self.post_start(
            ("frame", scene.png(0, objects=objects)),
            ("mask", scene.mask(objects=objects)),
            ("options", httpx.Response(200, json=options).content),
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["session_id"])

    def post_start(self, *parts: tuple[str, bytes]) -> httpx.Response:
        """Send POST /v1/sessions with these parts."""
        return self.http.post("/v1/sessions", files=form(parts))

    def append(
        self, session: str, images: Sequence[bytes], *, first: int, **query: Any
    ) -> httpx.Response:
        """Send POST clips with images."""
        parts = [("frames", image) for image in images]
        return self.post_append(session, *parts, first_frame=first, **query)

    def post_append(self, session: str, *parts: tuple[str, bytes], **query: Any) -> httpx.Response:
        """Send POST clips with these parts."""
        path = f"/v1/sessions/{session}/clips"
        return self.http.post(path, params=query, files=form(parts))

    def masks(self, session: str, **query: Any) -> httpx.Response:
        """Send GET masks; `from` is written `from_`."""
        params = {name.rstrip("_"): value for name, value in query.items()}
        return self.http.get(f"/v1/sessions/{session}/masks", params=params)

    def state(self, session: str) -> dict[str, Any]:
        """Return all that is committed of a session: it differs only if something changed."""
        answer = self.http.get(f"/v1/sessions/{session}").json()
        answer.pop("expires_at")
        return {**answer, "masks": self.masks(session).json()}


def form(parts: Sequence[tuple[str, bytes]]) -> Parts:
    """Return the parts of a multipart form as httpx takes them."""
    return [(name, (name, data)) for name, data in parts]


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the name of the problem in an answer."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["title"]
    assert body["detail"]
    return answer.status_code, str(body["type"]).removeprefix("/problems/")


@contextmanager
def unchanged(api: Api, session: str) -> Iterator[None]:
    """Fail if anything of the session is another when the block is left."""
    before = api.state(session)
    yield
    assert api.state(session) == before
