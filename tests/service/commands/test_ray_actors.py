"""What `tamvt batch --ray` says and counts before any Ray runs; tests/e2e has a real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.ray_actors import copy_settings, count_actors, running_ray
from service.errors import BadOption, StartupError
from tests.support.running import ROOT, environment

WITHOUT_RAY = (
    "import sys; sys.modules['ray'] = None; from service.__main__ import main; sys.exit(main())"
)


def node(cpus: float | None, *, alive: bool = True) -> dict[str, object]:
    return {"Alive": alive, "Resources": {} if cpus is None else {"CPU": cpus}}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ray", "local"), "tamvt batch: --ray: pip install 'tamvt-serve[ray]'"),
        (("--ray", "elsewhere"), "tamvt batch: --ray elsewhere: it is local, auto or HOST:PORT"),
        (("--ray", "auto", "--url", "http://127.0.0.1:1"), "leave out --url"),
        (("--ray", "local", "--actors", "0"), "Must be >= 1"),
    ],
)
def test_what_ray_cannot_be_asked_for_is_told_in_one_line(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, "batch", "videos.csv", "-o", str(out), *options],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert said in line
    assert not out.exists()


def test_as_many_actors_as_the_nodes_carry_whole() -> None:
    nodes = [node(8), node(3.0), node(1), node(64, alive=False), node(None)]
    assert count_actors(nodes, cpus=2) == 5
    with pytest.raises(BadOption, match="--actor-cpus 16: no node of Ray has more than 8"):
        count_actors(nodes, cpus=16)


def test_actors_get_the_settings_but_no_state_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment({}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TAMVT_STATE", "/var/lib/tamvt")
    monkeypatch.setenv("TAMVT_KEYS", "keys.json")
    monkeypatch.setenv("TAMVT_MODEL", "tamvt-r50")
    monkeypatch.delenv("TAMVT_ENGINE_THREADS", raising=False)
    named = copy_settings(threads=3)
    assert named["TAMVT_MODEL"] == "tamvt-r50"
    assert named["TAMVT_ENGINE_THREADS"] == "3"
    assert not {"TAMVT_STATE", "TAMVT_KEYS", "PATH"} & set(named)
    monkeypatch.setenv("TAMVT_ENGINE__THREADS", "2")  # the same setting by its other name
    assert "TAMVT_ENGINE_THREADS" not in copy_settings(threads=3)


def test_an_address_where_no_ray_listens_is_told_at_once() -> None:
    with (
        pytest.raises(StartupError, match=r"--ray 127\.0\.0\.1:1: Connection refused"),
        running_ray("127.0.0.1:1"),
    ):
        pass
