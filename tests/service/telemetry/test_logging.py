"""No client can fill a disk with the service's log."""

from __future__ import annotations

import io
import logging
import re
import time
from pathlib import Path

import httpx
import pytest

from service.telemetry.logging import LINES_A_MINUTE, LogFormat, Seldom, line_formatter
from tests.support import scene
from tests.support.running import PATIENCE_S, form, running_service


def logger_with(seldom: Seldom) -> tuple[logging.Logger, io.StringIO]:
    """Return a logger whose lines pass the filter, and what it has written."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(seldom)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, written


def test_a_kind_of_line_is_written_a_few_times_only() -> None:
    logger, written = logger_with(Seldom(lines=3))
    for number in range(10):
        logger.warning("refused %s", number)
    logger.warning("something else")
    assert written.getvalue().splitlines() == [
        "refused 0",
        "refused 1",
        "refused 2",
        "something else",
    ]


def test_what_was_left_out_is_counted() -> None:
    logger, written = logger_with(Seldom(lines=1, within_s=0.2))
    for number in range(5):
        if number == 4:
            time.sleep(0.3)
        logger.warning("refused %s", number)
    assert written.getvalue().splitlines()[1:] == ["refused 4 (3 more like it were left out)"]


def test_what_decoders_say_comes_as_lines_of_the_log_and_seldom(
    tmp_path: Path, toy_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    junk = scene.jpeg(0)
    junk = junk[:-300] + bytes(100) + junk[-200:]  # decoded, with a warning of libjpeg's
    with (
        running_service(state=tmp_path, weights=toy_folder) as service,
        httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http,
    ):
        for _ in range(LINES_A_MINUTE + 5):
            parts = form((("image", junk), ("box", b"[10, 10, 40, 40]")))
            assert http.post("/v1/masks/refine", files=parts).status_code in (200, 422)
    lines = capfd.readouterr().err.splitlines()
    assert sum("JPEG" in line for line in lines) == LINES_A_MINUTE
    assert all(re.match(r"time=.* level=\w+ logger=[\w.]+ message=", line) for line in lines)


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_whatever_is_logged_is_one_line(log_format: LogFormat) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(line_formatter(log_format))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        told = {"frames": 3, "session": "\x1b[2J\r\x9b"}
        logger.exception("failed\nwith \x1b[31m%s", '"quotes"', extra={"fields": told})
    (line,) = written.getvalue().splitlines()
    assert "first" in line
    assert "frames" in line
    assert not {"\x1b", "\r", "\x9b"} & set(line)
    assert "u001b" not in line
