"""How many threads a Triton on the CPU takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.export.triton.repository import write_repository
from service.commands.process_figures import command_of, descendants
from service.local.triton import local_triton


def test_a_triton_has_as_many_threads_as_its_container_is_told(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repository(toy_folder, "toy", tmp_path)
    counted = []
    for threads in ("1", "4"):
        monkeypatch.setenv("TAMVT_ENGINE_THREADS", threads)
        with local_triton(tmp_path) as server:
            stubs = [pid for pid in descendants(server.process.pid) if "stub" in command_of(pid)]
            counted.append([len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in stubs])
    assert [len(each) for each in counted] == [2, 2]  # memorize and segment
    assert sum(counted[1]) - sum(counted[0]) == 2 * 3
