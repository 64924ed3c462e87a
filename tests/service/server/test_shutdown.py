"""The process ends within its grace time, whatever a thread does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.running import PATIENCE_S, ROOT, environment

SERVICE = """
import asyncio, time
from service.app import create_app
from service.commands.serve import listen, serve
from service.settings import read_settings

async def main():
    settings = read_settings()
    app = create_app(settings)
    with listen("127.0.0.1", 0, settings) as listener:
        serving = asyncio.create_task(serve(listener, settings, app))
        while not hasattr(app.state, "service"):
            await asyncio.sleep(0.01)
        if {workers}:
            for _ in range(3):
                app.state.service.workers.start(time.sleep, 600)
        else:
            asyncio.ensure_future(asyncio.to_thread(time.sleep, 600))
        await serving

asyncio.run(main())
"""


@pytest.mark.parametrize("workers", [True, False])
def test_a_thread_that_sleeps_does_not_keep_the_process(
    tmp_path: Path, toy_folder: Path, workers: bool
) -> None:
    settings = {"TAMVT_STATE": str(tmp_path), "TAMVT_WEIGHTS": str(toy_folder)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE.replace("{workers}", str(workers))],
        cwd=ROOT,
        env=environment({**settings, "TAMVT_MODEL": "toy", "TAMVT_SHUTDOWN_GRACE_S": "5"}),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on ")
        (redis,) = psutil.Process(process.pid).children()
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert time.monotonic() - begin < 5
        # It was asked to end, and has written all: the thread that sleeps did not end it.
        assert not redis.is_running()
        assert not (tmp_path / "redis.sock").exists()
    finally:
        process.kill()
        process.communicate()
