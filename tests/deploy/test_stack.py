"""`make stack` for real: Traefik with TLS before two gateways with keys, on a guarded Redis.

What the runbook promises is done here to what runs: gateways and weights are replaced one by one
while a client sends.
"""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from scripts.deploy.check import ROOT
from scripts.deploy.stack import Stack, running_proxy, running_stack, write_certificate
from service.settings import Settings
from tests.service.stream.talk import Talk
from tests.support import scene
from tests.support.authority import Authority
from tests.support.redis_servers import free_port, wait_until
from tests.support.running import PATIENCE_S, Api, problem, run_tamvt
from tests.support.toy_model import WEIGHTS, write_toy_model

PACE_S = 0.1  # between two frames: a load, and not too many to send again for comparison


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Iterator[Stack]:
    """The stack with the toy model."""
    settings = {
        "TAMVT_WEIGHTS": str(toy_folder),
        "TAMVT_MODEL": "toy",
        "TAMVT_ENGINE_THREADS": "1",
        "TAMVT_STREAM_PING_S": "1",
        "TAMVT_SHUTDOWN_DELAY_S": "1.5",
    }
    with running_stack(tmp_path_factory.mktemp("stack"), settings=settings) as running:
        yield running


def trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@contextmanager
def calling(stack: Stack, *, key: str | None = None) -> Iterator[httpx.Client]:
    """A client of the proxy that shows the stack's key."""
    headers = {"Authorization": f"Bearer {stack.key if key is None else key}"}
    with httpx.Client(
        base_url=stack.url, headers=headers, verify=trust(stack.certificate), timeout=PATIENCE_S
    ) as http:
        yield http


def send(api: Api, session: str, number: int) -> dict[str, Any]:
    """Send one frame until it is acknowledged, and return its masks; retries are safe."""
    until = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < until:
        try:
            answer = api.append(session, [scene.png(number)], first=number)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code == 200:
            found: dict[str, Any] = answer.json()["frames"][0]
            return found
        assert answer.status_code in {409, 502, 503, 504}, answer.text
        time.sleep(0.05)
    raise AssertionError(f"frame {number} never arrived")


@contextmanager
def sending(api: Api, session: str, told: list[dict[str, Any]]) -> Iterator[None]:
    """Send frame after frame beside the block, and some after it; add their masks to `told`."""
    is_over = threading.Event()
    failed: list[BaseException] = []

    def send_all() -> None:
        try:
            after = 4
            while after:
                after -= is_over.is_set()
                told.append(send(api, session, len(told) + 1))
                time.sleep(PACE_S)
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=send_all)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    assert failed == []


def test_a_session_goes_through_the_proxy(stack: Stack, api: Api) -> None:
    with calling(stack) as http:
        behind = Api(http)
        session = behind.start()
        found = [send(behind, session, number) for number in range(1, 4)]
    alone = api.start()
    expected = [send(api, alone, number) for number in range(1, 4)]
    assert found == expected


def test_a_stream_goes_through_the_proxy_and_may_be_silent(stack: Stack) -> None:
    with calling(stack) as http:
        session = Api(http).start()
    url = stack.url.replace("https", "wss")
    with connect(
        f"{url}/v1/sessions/{session}/stream?mode=lossless",
        ssl=trust(stack.certificate),
        additional_headers={"Authorization": f"Bearer {stack.key}"},
        subprotocols=[Subprotocol("tamvt.v1")],
        proxy=None,
    ) as socket:
        talk = Talk(socket)
        assert talk.hear()["type"] == "ready"
        talk.send_frames([1, 2])
        assert [masks["frame"] for masks in talk.hear_masks(2)] == [1, 2]
        time.sleep(3)  # some pings of the gateway
        talk.send_frames([3])
        assert [masks["frame"] for masks in talk.hear_masks(1)] == [3]


def test_a_video_is_tracked_on_the_command_line(stack: Stack, tmp_path: Path) -> None:
    """The runbook's own command: the key and the certificate come from the environment."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(4):
        (frames / f"{number:05}.png").write_bytes(scene.png(number))
    (tmp_path / "mask.png").write_bytes(scene.mask())
    trusted = {"TAMVT_API_KEY": stack.key, "SSL_CERT_FILE": str(stack.certificate)}
    words = ("--mask", str(tmp_path / "mask.png"), "-o", str(tmp_path / "out"))
    done = run_tamvt("track", str(frames), *words, "--url", stack.url, settings=trusted)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 4


def test_strangers_and_wrong_keys_are_refused_behind_the_proxy(stack: Stack) -> None:
    with calling(stack, key="tamvt_nobody_nothing") as http:
        assert http.get("/v1/models").status_code == 401
    with calling(stack, key=stack.key[:-1] + "x") as http:
        answer = http.get("/v1/models")
    assert answer.status_code == 401
    assert "location" not in answer.headers


def test_metrics_are_not_seen_from_outside(stack: Stack) -> None:
    with calling(stack) as http:
        assert http.get("/metrics").status_code == 404
        assert http.get("/healthz").status_code == 200


def test_plain_http_and_an_unknown_certificate_get_nothing(stack: Stack) -> None:
    plain = httpx.get(stack.url.replace("https", "http") + "/readyz", timeout=PATIENCE_S)
    assert plain.status_code in {400, 404}
    with pytest.raises(httpx.ConnectError):  # it trusts the world's authorities, not ours
        httpx.get(f"{stack.url}/readyz", timeout=PATIENCE_S)


def test_the_redis_of_the_stack_asks_for_its_password(stack: Stack) -> None:
    with Redis.from_url(stack.redis_url) as known:
        assert known.ping()
        assert known.config_get("appendfsync") == {"appendfsync": "always"}
    stranger = Redis(port=int(stack.redis_url.rpartition(":")[2].removesuffix("/0")))
    with stranger, pytest.raises(AuthenticationError):
        stranger.ping()


def test_secrets_are_for_their_owner_alone(stack: Stack) -> None:
    state = stack.certificate.parents[1]
    for name in ("redis-password", "redis-url", "auth.conf", "api-key", "certificates/tls.key"):
        assert (state / name).stat().st_mode & 0o077 == 0, name


def test_nothing_that_runs_tells_a_secret(stack: Stack) -> None:
    """Neither the logs nor the list of processes hold a key, a password or a private key."""
    state = stack.certificate.parents[1]
    _, private, *_ = (state / "certificates" / "tls.key").read_text().splitlines()
    hidden = [(state / "redis-password").read_text(), stack.key.split("_", 2)[2], private]
    told = [path.read_text(errors="replace") for path in state.glob("*.log")]
    assert len(told) == 2 + len(stack.gateways)
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            told.append(" ".join(each.cmdline()))
    assert any("traefik" in text for text in told)
    assert [text for text in told if any(secret in text for secret in hidden)] == []


def test_gateways_and_the_password_of_redis_are_replaced_under_load(stack: Stack, api: Api) -> None:
    """The runbook's rolling upgrade: no frame is lost, and none is told twice in another way.

    They come back with the next password of Redis, which knows the old one no more.
    """
    address = stack.redis_url.rpartition("@")[2]
    told: list[dict[str, Any]] = []
    with calling(stack) as http:
        behind = Api(http)
        session = behind.start()
        with sending(behind, session, told):
            with Redis.from_url(stack.redis_url) as known:
                known.config_set("requirepass", "next")
            for gateway in stack.gateways:
                stack.replace(gateway, {"TAMVT_REDIS_URL": f"redis://:next@{address}"})
        assert behind.masks(session, from_=1).json()["frames"] == told[:500]
    alone = api.start()
    assert told == [send(api, alone, number + 1) for number in range(len(told))]


# The proxy alone.


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that it was sent."""

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def is_answered(client: httpx.Client) -> bool:
    """Return whether the proxy has found what is behind it."""
    with suppress(httpx.TransportError):
        return client.get("/v1/models").status_code == 200
    return False


@contextmanager
def echoing() -> Iterator[str]:
    """The address of a server that answers with what it was sent."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{upstream.server_port}"
        upstream.shutdown()


def test_a_tenants_name_from_outside_is_taken_off(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path / "certificates")
    with (
        echoing() as address,
        running_proxy(tmp_path, port=free_port(), gateways=[address]) as url,
        httpx.Client(base_url=url, verify=trust(certificate), timeout=PATIENCE_S) as client,
    ):
        wait_until(lambda: is_answered(client), what="an answer through the proxy")
        answer = client.get("/v1/models", headers={"X-Tenant": "eve", "X-Other": "1"})
    assert "x-tenant" not in answer.json()
    assert answer.json()["x-other"] == "1"
    assert answer.json()["host"].startswith("localhost")


def test_the_proxy_can_ask_clients_for_certificates(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path / "certificates")
    authority = Authority(tmp_path)
    known, foreign, bare = (trust(certificate) for _ in range(3))
    known.load_cert_chain(*authority.issue("client"))
    foreign.load_cert_chain(*Authority(tmp_path, "another").issue("stranger"))
    with (
        echoing() as address,
        running_proxy(
            tmp_path, port=free_port(), gateways=[address], client_ca=authority.file
        ) as url,
        httpx.Client(base_url=url, verify=known, timeout=PATIENCE_S) as client,
    ):
        wait_until(lambda: is_answered(client), what="an answer through the proxy")
        for wrong in (foreign, bare):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{url}/v1/models", verify=wrong, timeout=PATIENCE_S)


def test_the_proxy_waits_longer_than_a_gateway() -> None:
    text = (ROOT / "deploy/compose/traefik.yml").read_text()
    plain = "\n".join(line for line in text.splitlines() if "{{" not in line)
    (transport,) = yaml.safe_load(plain)["http"]["serversTransports"].values()
    waits_s = float(transport["forwardingTimeouts"]["responseHeaderTimeout"].rstrip("s"))
    assert waits_s > Settings().request_deadline_s
    assert "readTimeout=0s" in (ROOT / "docker-compose.yml").read_text()


def test_problem_documents_come_through_the_proxy(stack: Stack) -> None:
    with calling(stack) as http:
        assert problem(http.get("/v1/sessions/nobody")) == (404, "unknown-session")


# Last: it leaves the stack with one gateway, of other weights.


def test_weights_are_replaced_gateway_by_gateway_under_load(stack: Stack, tmp_path: Path) -> None:
    """What was told stays; what comes later is by the new weights, and the session says so."""
    random = np.random.default_rng(3)
    changed = {
        name: (value + random.normal(0, 1e-3, value.shape)).astype(value.dtype)
        for name, value in WEIGHTS.items()
    }
    write_toy_model(tmp_path, weights=changed)

    told: list[dict[str, Any]] = []
    with calling(stack) as http:
        behind = Api(http)
        session = behind.start()
        path = f"/v1/sessions/{session}"
        before = http.get(path).json()["weights_sha256"]
        with sending(behind, session, told):
            first, *others = stack.gateways
            stack.replace(first, {"TAMVT_WEIGHTS": str(tmp_path)})
            for gateway in others:  # from here on the new weights alone
                gateway.stop()
        assert behind.masks(session, from_=1).json()["frames"] == told[:500]
        assert http.get(path).json()["weights_sha256"] != before
