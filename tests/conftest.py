"""What all tests share: the toy model, and one running service with a real Redis behind it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from playwright.async_api import Browser
from xdist.scheduler import LoadScopeScheduling

from tests.support.browser import running_browser
from tests.support.running import PATIENCE_S, Api, Running, running_service
from tests.support.toy_model import write_toy_model

KEPT_SETTINGS = {"TAMVT_DATA"}
STARTS_TRITON = re.compile(r"LocalTriton|TritonServer|(local|running)_triton")
ASYNC_TEST_SECONDS = 280.0  # below pytest's own, which would break the loop that tests share


def pytest_configure() -> None:
    """Forgets the caller's settings: the tests run under their own. Only the data stay.

    An example that takes long on a busy machine is no fault of what it tries.
    """
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("patient")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A run in a shell's background ignores Ctrl-C, and so would every command that it tries.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if name.startswith("TAMVT_") and name not in KEPT_SETTINGS:
            del os.environ[name]
    # What promises equal bits is tested where it holds on every processor.
    os.environ["TAMVT_RUNTIME"] = "onnxruntime"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A fault is placed by its seed: one in the normal run, FAULT_SEEDS in `make test-faults`."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(int(os.environ.get("FAULT_SEEDS", "1"))))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Of two workers (`make test`) each has whole files.

    One of them has all that start a Triton: some look at the regions of the host's shared memory.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "triton" if STARTS_TRITON.search(Path(path).read_text(encoding="utf-8")) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Share the tests out by what they share."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An asynchronous test that waits for ever fails by itself, not with all that come after."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = with_deadline(item.obj)


def with_deadline(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(ASYNC_TEST_SECONDS):
            await test(*args, **kwargs)

    return run


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy model."""
    folder = tmp_path_factory.mktemp("toy")
    write_toy_model(folder)
    return folder


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Iterator[Running]:
    """One service for all tests that do not end it: each starts sessions of its own."""
    state = tmp_path_factory.mktemp("state")
    with running_service(state=state, weights=toy_folder) as service:
        yield service


@pytest.fixture(scope="session")
def api(running: Running) -> Iterator[Api]:
    """The REST interface of the running service."""
    # The service closes a connection that was idle for 5 s: a client that keeps it as long may
    # send into the close when the machine stands still for a moment.
    limits = httpx.Limits(keepalive_expiry=1.0)
    with httpx.Client(base_url=running.url, timeout=PATIENCE_S, limits=limits) as http:
        yield Api(http)


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One real Chromium for all tests: each opens pages of its own."""
    async with running_browser() as browser:
        yield browser
