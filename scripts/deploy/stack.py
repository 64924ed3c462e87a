"""Run a secured installation as processes: Traefik with TLS, gateways that ask for keys, a Redis.

    python -m scripts.deploy.stack [--state FOLDER] [--gateways 2] [--port 8443] [--triton DIR]

It prints the address when all is ready, and runs until Ctrl-C or SIGTERM, which drain it. The
certificate, the Redis's password and its data, and a first API key stay in the state folder, for
the next start. Everything listens on loopback; deploy/compose/traefik.yml says what the proxy does.
"""

from __future__ import annotations

import argparse
import os
import secrets
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.errors import Misconfigured, StartupError, TamvtError
from service.local.private_redis import find_redis
from service.local.private_service import wait_for_address
from service.local.supervisor import (
    POLL_S,
    catch_stop_signals,
    find_free_port,
    read_last_line,
    start_child,
    stop_child,
)
from service.local.triton import local_triton

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.prefix) / "tools"  # where scripts/setup puts programs for deploy/
TRAEFIK = TOOLS / "deploy" / "bin" / "traefik"
START_S = 120.0
STOP_S = 40.0
CHECKED_S = 1.0  # how often the proxy asks /readyz
GATEWAY = {
    "TAMVT_KEYS": "redis",
    "TAMVT_MAX_PEER_CONNECTIONS": "1000",  # all clients are the proxy's one address
    "TAMVT_SHUTDOWN_DELAY_S": "3",  # the proxy asks /readyz every second
}


def write_secret(path: Path, text: str) -> str:
    """Return what a file that only we may read holds; the text, written, where there is none."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    return path.read_text()


def write_certificate(folder: Path) -> Path:
    """Return the certificate of localhost, made for ten years where there is none."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / "tls.crt").is_file():
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        words = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        more = ("-days", "3650", "-subj", "/CN=localhost", "-addext", names)
        files = ("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"))
        try:
            subprocess.run(["openssl", *words, *more, *files], check=True, capture_output=True)
        except FileNotFoundError as error:
            raise Misconfigured("openssl makes the certificate: install it") from error
    return folder / "tls.crt"


@dataclass
class StackGateway:
    """One gateway of the stack on a port that stays its own when it is started again."""

    port: int
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, command: tuple[str, ...] = (sys.executable, "-m", "service")) -> None:
        """Run it and wait until it listens; raise StartupError with its last line where it ends."""
        words = [*command, "serve", "--port", str(self.port)]
        self.process = start_child(words, log=self.log, environment=self.environment)
        wait_for_address(self.process, self.log, deadline_s=START_S)

    def is_ready(self) -> bool:
        """Return whether it says that work gets done."""
        with suppress(OSError):
            urllib.request.urlopen(f"{self.url}/readyz", timeout=5).close()
            return True
        return False

    def stop(self) -> None:
        """Let it drain and end."""
        if self.process is not None:
            stop_child(self.process, deadline_s=STOP_S)
            self.process = None


@dataclass
class Stack:
    """What runs: the address in front, and the parts behind it."""

    url: str
    certificate: Path
    redis_url: str
    gateways: list[StackGateway]
    key: str  # of the tenant `stack`

    def replace(self, gateway: StackGateway, settings: Mapping[str, str] | None = None) -> None:
        """Drain a gateway, start it again with these settings, and wait until the proxy uses it.

        Call it on a thread that lives as long as the gateway: that is how children end with us.
        """
        gateway.stop()
        gateway.environment = {**gateway.environment, **(settings or {})}
        gateway.start()
        until = time.monotonic() + START_S
        while not gateway.is_ready():
            if time.monotonic() > until:
                raise StartupError(f"a gateway is not ready: {read_last_line(gateway.log)}")
            time.sleep(0.1)
        time.sleep(1.5 * CHECKED_S)

    def wait_until_ready(self) -> None:
        """Wait until the proxy has found a gateway; raise StartupError at the deadline."""
        trust = ssl.create_default_context(cafile=str(self.certificate))
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with suppress(OSError):  # of which a refusal and a timeout are kinds
                urllib.request.urlopen(f"{self.url}/readyz", context=trust, timeout=5).close()
                return
            time.sleep(0.1)
        raise StartupError("no gateway was ready behind the proxy in time")


@contextmanager
def running_redis(state: Path) -> Iterator[str]:
    """Run a Redis with a password and a file that is synced, and yield its address."""
    password = write_secret(state / "redis-password", secrets.token_hex(24))
    data = state / "redis"
    data.mkdir(exist_ok=True, mode=0o700)
    port = find_free_port()
    config = (ROOT / "deploy/compose/redis.conf").read_text()
    config = config.replace("/data", str(data)).replace("/run/redis", str(state))
    (state / "auth.conf").unlink(missing_ok=True)
    write_secret(state / "auth.conf", f"requirepass {password}\n")
    (state / "redis.conf").write_text(f"{config}bind 127.0.0.1\nport {port}\n")
    command = [find_redis(), str(state / "redis.conf")]
    process = start_child(command, log=state / "redis.log", environment=os.environ)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    (state / "redis-url").unlink(missing_ok=True)
    write_secret(state / "redis-url", url)
    try:
        yield url
    finally:
        stop_child(process, deadline_s=STOP_S)


def make_key(state: Path, environment: Mapping[str, str]) -> str:
    """Return the first API key of this installation, made where there is none."""
    path = state / "api-key"
    if not path.exists():
        command = [sys.executable, "-m", "service", "keys", "create", "--tenant", "stack"]
        made = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=START_S
        )
        if made.returncode:
            raise StartupError(f"no key could be made: {made.stderr.strip()}")
        write_secret(path, made.stdout)
    return path.read_text().strip()


@contextmanager
def running_proxy(
    state: Path, *, port: int, gateways: Sequence[str], client_ca: Path | None = None
) -> Iterator[str]:
    """Run Traefik before the gateways at these addresses, and yield its own.

    With `client_ca`, a file of authorities, clients have to show certificates of theirs.
    """
    if not TRAEFIK.is_file():
        raise Misconfigured(f"no Traefik at {TRAEFIK}: scripts/setup deploy")
    command = [
        str(TRAEFIK),
        f"--entrypoints.web.address=127.0.0.1:{port}",
        "--entrypoints.web.transport.respondingTimeouts.readTimeout=0s",
        f"--providers.file.filename={ROOT / 'deploy/compose/traefik.yml'}",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
    ]
    own = {
        "GATEWAYS": ",".join(gateways),
        "CERTIFICATES": str(state / "certificates"),
        "CLIENT_CA": str(client_ca or ""),
    }
    process = start_child(command, log=state / "traefik.log", environment={**os.environ, **own})
    try:
        yield f"https://localhost:{port}"
    finally:
        stop_child(process, deadline_s=STOP_S)


@contextmanager
def running_stack(
    state: Path,
    *,
    gateways: int = 2,
    port: int = 0,
    triton: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Run everything until the block is left; raise StartupError where a part does not start.

    `settings` are further variables of the gateways. Ends in reverse: the proxy first.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as parts:
        certificate = write_certificate(state / "certificates")
        redis_url = parts.enter_context(running_redis(state))
        own = {**os.environ, **GATEWAY, "TAMVT_REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
        if triton is not None:
            server = parts.enter_context(local_triton(triton))
            own |= {"TAMVT_ENGINE": "triton", "TAMVT_TRITON_URL": server.url}
        environment = {**own, **(settings or {})}
        key = make_key(state, environment)
        made = [
            StackGateway(find_free_port(), state / f"gateway-{number}.log", environment)
            for number in range(gateways)
        ]
        pool = parts.enter_context(ThreadPoolExecutor(max(1, gateways)))
        parts.callback(lambda: list(pool.map(StackGateway.stop, made)))
        for gateway in made:
            gateway.start()
        addresses = [gateway.url for gateway in made]
        proxy = running_proxy(state, port=port or find_free_port(), gateways=addresses)
        stack = Stack(parts.enter_context(proxy), certificate, redis_url, made, key)
        stack.wait_until_ready()
        yield stack


def main() -> int:
    """Return 0 after a clean stop, or 1 with one line of what did not start."""
    parser = argparse.ArgumentParser(description="Run a secured installation as processes.")
    parser.add_argument("--state", type=Path, default=Path(".state/stack"))
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--port", type=int, default=8443, help="of the proxy; 0: a free one")
    parser.add_argument("--triton", type=Path, help="model repository: the gateways ask a Triton")
    words = parser.parse_args()
    folder = words.state
    try:
        with running_stack(
            folder, gateways=words.gateways, port=words.port, triton=words.triton
        ) as stack:
            print(f"listening on {stack.url}")
            print(f"  its certificate: {stack.certificate}")
            print(f"  an API key: {folder / 'api-key'}; more by `tamvt keys`, with")
            print(f"  TAMVT_KEYS=redis TAMVT_REDIS_URL=$(cat {folder / 'redis-url'})", flush=True)
            with catch_stop_signals() as stop:
                while not stop.requested:
                    time.sleep(POLL_S)
    except TamvtError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before all was ready
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
