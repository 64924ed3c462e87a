"""docs/stream.md tells the truth: its client runs, its codes are those that are used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from service.problems import KINDS
from tests.support import scene
from tests.support.running import ROOT, Api, Running

DOCUMENT = (ROOT / "docs" / "stream.md").read_text()
PLAIN_CLIENT = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)[1]


def test_the_plain_client_tracks_a_folder(running: Running, api: Api, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number:05d}.jpg").write_bytes(scene.jpeg(number))
    script = tmp_path / "client.py"
    script.write_text(PLAIN_CLIENT)
    session = api.start()
    done = subprocess.run(
        [sys.executable, script, running.url, session, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *masks, bye = done.stdout.splitlines()
    assert [int(line.split()[0]) for line in masks] == list(range(1, 12))
    assert json.loads(bye.replace("'", '"').replace("False", "false"))["reason"] == "end"
    assert api.state(session)["next_frame"] == 12


def test_the_plain_client_has_thirty_lines() -> None:
    assert len(PLAIN_CLIENT.strip().splitlines()) <= 36  # imports and blank lines included


def test_close_codes_are_those_of_problems() -> None:
    listed = {
        int(code) - 4000 for code in re.findall(r"^\| (4[04]\d\d) \|", DOCUMENT, re.MULTILINE)
    }
    statuses = {kind.status for kind in KINDS.values()}
    assert listed - {1} <= statuses
