"""A Triton of our own on this machine: the server in the wheel `nvidia-pytriton`, no containers.

The wheel carries `tritonserver` with the Python backend only. It lies in a folder of its own
(`pip install --no-deps --target`), because it asks for packages that we do not use.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.errors import Misconfigured
from service.local.supervisor import (
    POLL_S,
    StopSignals,
    find_free_port,
    start_child,
    stop_child,
)

WHEEL = "nvidia-pytriton==0.7.0"
HOME = Path(sys.prefix) / "tritonserver"
SHARED_MEMORY = Path("/dev/shm")
STOP_S = 15.0
KEEP_BLOCKS = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0"
    ":glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456",
}


class Stopped(Exception):
    """A signal ended the start."""


@dataclass(frozen=True, slots=True)
class LocalTriton:
    """A Triton that serves its models: where, and its process."""

    url: str  # host:port of gRPC
    metrics_url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def local_triton(
    repository: Path,
    *,
    host: str = "127.0.0.1",
    grpc_port: int = 0,
    metrics_port: int = 0,
    home: Path = HOME,
    deadline_s: float = 300.0,
    stop: StopSignals | None = None,
    otlp_endpoint: str = "",
) -> Iterator[LocalTriton]:
    """Run a Triton that serves the models in `repository` until the block is left.

    It sends its part of traces to the collector `otlp_endpoint`, if there is one.

    Port 0 picks a free one. Raises Misconfigured if the wheel is missing, or the models are not
    served within the deadline, and Stopped if `stop` is requested before they are. Enter it on a
    thread that lives as long as the server is needed.
    """
    with tempfile.TemporaryDirectory(prefix="tamvt-triton-") as folder:
        ports = (grpc_port or find_free_port(host), metrics_port or find_free_port(host))
        log = Path(folder) / "triton.log"
        server = _Server(repository, host=host, ports=ports, home=home, folder=Path(folder))
        process = server.start(log, otlp_endpoint=otlp_endpoint)
        try:
            wait_until_ready(process, f"{host}:{ports[0]}", log, deadline_s=deadline_s, stop=stop)
            metrics = f"http://{host}:{ports[1]}/metrics"
            yield LocalTriton(f"{host}:{ports[0]}", metrics, process, log)
        finally:
            stop_child(process, deadline_s=STOP_S)
            server.clean()


def trace_options(otlp_endpoint: str) -> list[str]:
    """Return Triton's options by which it goes on with the traces of its callers."""
    return [
        "--trace-config=mode=opentelemetry",
        f"--trace-config=opentelemetry,url={otlp_endpoint.rstrip('/')}/v1/traces",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=1",
    ]


class _Server:
    """The command line and the environment of one `tritonserver`."""

    def __init__(
        self, repository: Path, *, host: str, ports: tuple[int, int], home: Path, folder: Path
    ) -> None:
        self._root = home / "pytriton" / "tritonserver"
        self._program = self._root / "bin" / "tritonserver"
        if not self._program.is_file():
            raise Misconfigured(
                f"no Triton in {home}: pip install --no-deps --target {home} {WHEEL}"
            )
        if not repository.is_dir():
            raise Misconfigured(f"no model repository at {repository}")
        self._repository, self._host, self._ports = repository, host, ports
        self._home, self._folder = home, folder
        self._prefix = folder.name  # of the Python backend's own shared memory

    def start(self, log: Path, *, otlp_endpoint: str) -> subprocess.Popen[bytes]:
        """Return the started server; its log goes to a file."""
        backends = _find_backends(self._root, self._folder)
        environment = self._environment()
        # Newer servers take shared memory only where they are told to; older do not know the word.
        told = subprocess.run(
            [str(self._program), "--help"],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        can_allow = b"--allow-client-shm" in told.stdout + told.stderr
        grpc, metrics = self._ports
        command = [
            str(self._program),
            f"--model-repository={self._repository.resolve()}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--allow-http=false",
            f"--grpc-address={self._host}",
            f"--grpc-port={grpc}",
            f"--metrics-address={self._host}",
            f"--metrics-port={metrics}",
            "--allow-gpu-metrics=false",
            "--disable-auto-complete-config",
            *(["--allow-client-shm=true"] if can_allow else []),
            *(trace_options(otlp_endpoint) if otlp_endpoint else []),
        ]
        return start_child(command, log=log, environment=environment)

    def clean(self) -> None:
        """Remove the shared memory that a killed server leaves behind."""
        for path in SHARED_MEMORY.glob(f"{self._prefix}*"):
            path.unlink(missing_ok=True)

    def _environment(self) -> Mapping[str, str]:
        # The stub needs this Python's shared library.
        name = str(sysconfig.get_config_var("INSTSONAME"))
        folders = [sysconfig.get_config_var("LIBDIR"), str(Path(sys.base_prefix) / "lib")]
        found = (f for f in folders if f and ".so" in name and (Path(f) / name).is_file())
        library = next(found, "")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        if not library and not ctypes.util.find_library(f"python{version}"):
            raise Misconfigured(
                f"Triton needs libpython{version}.so: install the package libpython{version}"
            )
        libraries = [str(self._home / "nvidia_pytriton.libs"), library]
        # What model.py imports lies where it lies for us.
        paths = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        return {
            **os.environ,
            **KEEP_BLOCKS,
            "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
            # The stub ignores PYTHONPATH, but looks for python3 on PATH to find its packages.
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": ":".join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def _find_backends(root: Path, folder: Path) -> Path:
    """Return the Python backend, with the stub of this Python beside its library."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise Misconfigured(f"{WHEEL} has no stub for Python {version}")
    target = folder / "backends" / "python"
    target.mkdir(parents=True)
    for path in (root / "backends" / "python").glob("*.*"):
        (target / path.name).symlink_to(path)
    shutil.copy(stub, target)
    (target / stub.name).chmod(0o755)
    return target.parent


def wait_until_ready(
    process: subprocess.Popen[bytes],
    url: str,
    log: Path,
    *,
    deadline_s: float,
    stop: StopSignals | None = None,
) -> None:
    """Wait until a Triton serves its models; raise Misconfigured, or Stopped after a signal."""
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    until = time.monotonic() + deadline_s
    # No proxy of the environment stands before this machine.
    client = InferenceServerClient(url, channel_args=[("grpc.enable_http_proxy", 0)])
    try:
        while time.monotonic() < until:
            if stop is not None and stop.requested:
                raise Stopped("a signal came before the models were served")
            if (status := process.poll()) is not None:
                told = _find_first_error(log)
                raise Misconfigured(f"Triton ended with status {status}: {told}")
            with suppress(InferenceServerException):
                if client.is_server_ready(client_timeout=1.0):
                    return
            time.sleep(POLL_S)
    finally:
        client.close()
    raise Misconfigured(f"Triton is not ready after {deadline_s:g} s: {_find_first_error(log)}")


def _find_first_error(log: Path) -> str:
    """Return the line of the log that tells best why a server did not start."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    signs = ("failed to load '", "UNAVAILABLE: ", "error: ")
    told = (line for sign in signs for line in lines if sign in line)
    return " ".join(next(told, "its log tells nothing").split())[:400]
