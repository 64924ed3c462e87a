"""ONNX Runtime reports to its makers unless it is told not to: ours must not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import ROOT

OPEN = "import onnxruntime; onnxruntime.InferenceSession({path!r})"
GRAPH = ROOT / "model" / "weights" / "tamvt-mobile_prompt.onnx"


@pytest.mark.parametrize("room", ["service", "model.core.memory", "tamvt"])
def test_a_process_of_ours_leaves_nothing_for_others(room: str, tmp_path: Path) -> None:
    # These two keep ONNX Runtime silent by themselves.
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY")}
    line = f"import {room}; {OPEN.format(path=str(GRAPH))}"
    subprocess.run(
        [sys.executable, "-c", line],
        env={**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    assert not list(tmp_path.rglob("*"))  # neither a number for this device nor a queue of reports
