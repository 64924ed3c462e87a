"""`tamvt doctor`: each fault that is planted is found, and the exit status says so."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from service.access.key_stores import KeyFile
from service.access.keys import make_key
from service.commands.doctor import report
from service.local.doctor import Finding, examine
from service.local.machine import Machine
from service.local.triton import LocalTriton
from service.settings import Settings
from tests.support.authority import Authority
from tests.support.redis_servers import free_port, running_cluster, running_redis
from tests.support.running import run_tamvt

pytestmark = pytest.mark.anyio
WELL = Machine(
    architecture="x86_64",
    features=frozenset(("avx2",)),
    keeps_blocks=lambda: True,
    open_files=100_000,
    free_bytes=lambda _: 10**12,
)


@dataclass
class Installation:
    """A healthy installation, into which a test plants faults."""

    folder: Path
    toy: Path
    redis_options: dict[str, str] = field(default_factory=lambda: {"maxmemory": "100mb"})
    settings: dict[str, Any] = field(default_factory=dict)
    machine: Machine = WELL
    host: str = "127.0.0.1"
    port: int = 0
    taken: socket.socket | None = None

    async def found(self) -> list[Finding]:
        """What the doctor says."""
        settings = Settings(**{"weights": self.toy, "model": "toy", **self.settings})
        seen = examine(settings, self.machine, host=self.host, port=self.port)
        return [finding async for finding in seen]


@pytest.fixture
def installation(tmp_path: Path, toy_folder: Path) -> Iterator[Installation]:
    weights = tmp_path / "weights"
    shutil.copytree(toy_folder, weights)
    built = Installation(tmp_path, weights, settings={"state": tmp_path / "state"})
    yield built
    if built.taken is not None:
        built.taken.close()


def change(**facts: Any) -> Callable[[Installation], None]:
    """A fault of the machine."""

    def plant(installation: Installation) -> None:
        installation.machine = replace(installation.machine, **facts)

    return plant


def setting(**settings: Any) -> Callable[[Installation], None]:
    """A fault of the settings."""
    return lambda installation: installation.settings.update(settings)


def prompt_graph_damaged(installation: Installation) -> None:
    (installation.toy / "toy_prompt.onnx").write_bytes(b"no graph")


def model_damaged(installation: Installation) -> None:
    (installation.toy / "toy_segment.onnx").write_bytes(b"no graph")


def state_is_a_file(installation: Installation) -> None:
    (installation.folder / "state").write_text("")


def port_taken(installation: Installation) -> None:
    installation.taken = socket.create_server(("127.0.0.1", 0))
    installation.port = installation.taken.getsockname()[1]


def open_to_all(installation: Installation) -> None:
    installation.host = "0.0.0.0"


def keys_for_everybody(installation: Installation) -> None:
    path = installation.folder / "keys.json"
    path.write_text('{"keys": []}')
    path.chmod(0o644)
    installation.settings["keys"] = str(path)


def no_valid_key(installation: Installation) -> None:
    path = installation.folder / "keys.json"
    path.write_text('{"keys": []}')
    path.chmod(0o600)
    installation.settings["keys"] = str(path)


def certificate(*, days: float) -> Callable[[Installation], None]:
    def plant(installation: Installation) -> None:
        files = Authority(installation.folder).issue("service", days=days)
        names = ("tls_certificate", "tls_key")
        installation.settings |= dict(zip(names, map(str, files), strict=True))

    return plant


def foreign_key(installation: Installation) -> None:
    authority = Authority(installation.folder)
    mine, _ = authority.issue("service")
    _, other = authority.issue("other")
    installation.settings |= {"tls_certificate": str(mine), "tls_key": str(other)}


NOBODY = f"127.0.0.1:{free_port()}"
FAULTS = {
    "an old processor": (change(features=frozenset(("sse4_2",))), "warning", "processor"),
    "blocks that go back": (change(keeps_blocks=lambda: False), "warning", "malloc"),
    "few files": (change(open_files=500), "warning", "files"),
    "hardly any files": (change(open_files=100), "fault", "files"),
    "a full disk": (change(free_bytes=lambda _: 10_000), "fault", "disk"),
    "a file as state": (state_is_a_file, "fault", "disk"),
    "a taken port": (port_taken, "fault", "port"),
    "no key on all addresses": (open_to_all, "fault", "port"),
    "keys to read for all": (keys_for_everybody, "fault", "keys"),
    "no key at all": (no_valid_key, "fault", "keys"),
    "no file of keys": (setting(keys="absent.json"), "fault", "keys"),
    "keys in a private redis": (setting(keys="redis"), "fault", "keys"),
    "an issuer that is away": (
        setting(oidc_issuer=f"http://{NOBODY}", oidc_audience="a"),
        "fault",
        "issuer",
    ),
    "a certificate that ended": (certificate(days=-1), "fault", "TLS"),
    "a certificate that ends soon": (certificate(days=3), "warning", "TLS"),
    "another certificate's key": (foreign_key, "fault", "TLS"),
    "no redis": (setting(redis_url=f"redis://{NOBODY}"), "fault", "redis"),
    "a misspelt redis": (setting(redis_url="redisx://a"), "fault", "redis"),
    "no such model": (setting(model="absent"), "fault", "model"),
    "a damaged graph": (model_damaged, "fault", "model"),
    "a damaged prompt graph": (prompt_graph_damaged, "fault", "prompts"),
    "no triton": (
        setting(engine="triton", triton_url=NOBODY, triton_shared_memory=False),
        "fault",
        "triton",
    ),
}


async def test_a_healthy_installation_has_nothing(installation: Installation) -> None:
    text, kept = make_key("ann", ["read"])
    assert text
    await KeyFile(installation.folder / "keys.json").put(kept)
    installation.settings["keys"] = str(installation.folder / "keys.json")
    certificate(days=90)(installation)
    assert {finding.level for finding in await installation.found()} == {"ok"}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_planted_fault_is_found(
    installation: Installation, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, level, part = FAULTS[name]
    monkeypatch.setattr("service.local.doctor.DEADLINE_S", 0.5)
    plant(installation)
    wrong = [finding for finding in await installation.found() if finding.level != "ok"]
    assert [(finding.level, finding.part) for finding in wrong] == [(level, part)]
    assert wrong[0].advice
    assert "\n" not in wrong[0].line()


async def test_it_makes_nothing(installation: Installation) -> None:
    await installation.found()
    assert not (installation.folder / "state").exists()


@pytest.mark.parametrize(
    ("host", "port", "level"), [("127.0.0.2", 0, "ok"), ("127.0.0.1", 70_000, "fault")]
)
async def test_it_judges_an_address_as_the_service_does(
    installation: Installation, host: str, port: int, level: str
) -> None:
    installation.host, installation.port = host, port
    (found,) = [each for each in await installation.found() if each.part == "port"]
    assert found.level == level


async def test_a_certificate_in_the_home_folder_is_found(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate(days=90)(installation)
    monkeypatch.setenv("HOME", str(installation.folder))
    for name in ("tls_certificate", "tls_key"):
        given = Path(installation.settings[name])
        installation.settings[name] = f"~/{given.relative_to(installation.folder)}"
    assert {finding.level for finding in await installation.found()} == {"ok"}


async def test_small_shared_memory_is_found_where_banks_lie_in_it(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.local.doctor.DEADLINE_S", 0.5)
    shared = WELL.shared_memory
    small = {"free_bytes": lambda path: 64_000_000 if path == shared else 10**12}
    change(**small)(installation)
    assert {finding.level for finding in await installation.found()} == {"ok"}
    setting(engine="triton", triton_url=NOBODY)(installation)
    wrong = [finding.part for finding in await installation.found() if finding.level == "fault"]
    assert wrong == ["shared memory", "triton"]


async def test_a_redis_that_loses_or_drops_what_it_holds_is_found(
    installation: Installation,
) -> None:
    options = {"appendonly": "no", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with running_redis(installation.folder / "redis", options=options) as server:
        installation.settings["redis_url"] = server.url

        async def wrong() -> list[tuple[str, str, str]]:
            found = await installation.found()
            return [(each.level, each.part, each.seen) for each in found if each.level != "ok"]

        assert await wrong() == [
            ("fault", "redis", "it keeps nothing on its disk"),
            ("fault", "redis", "maxmemory-policy allkeys-lru"),
        ]
        with server.client() as client:
            client.config_set("appendonly", "yes")
            client.config_set("appendfsync", "everysec")
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "0")
            assert await wrong() == [
                ("warning", "redis", "appendfsync everysec"),
                ("warning", "redis", "maxmemory is not set"),
            ]
            client.config_set("appendfsync", "always")
            client.config_set("maxmemory", "100mb")
            assert await wrong() == []
            change(now=lambda: time.time() + 60)(installation)
            ((level, part, _),) = await wrong()
            assert (level, part) == ("fault", "clock")
            change(now=time.time)(installation)
            client.config_set("requirepass", "secret")
            ((level, part, seen),) = await wrong()
            assert (level, part) == ("fault", "redis")
            assert "credentials" in seen


async def test_each_master_of_a_cluster_is_looked_at(installation: Installation) -> None:
    with running_cluster(installation.folder / "cluster") as cluster:
        installation.settings["redis_url"] = cluster.url
        for node in cluster.nodes:
            with node.client() as client:
                client.config_set("maxmemory", "100mb")
        assert {finding.level for finding in await installation.found()} == {"ok"}
        with cluster.nodes[1].client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        wrong = [finding for finding in await installation.found() if finding.level != "ok"]
        assert [each.seen for each in wrong] == ["maxmemory-policy allkeys-lru"]


async def test_the_triton_that_serves_the_model_is_well_and_one_without_it_is_not(
    installation: Installation, triton: LocalTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting(engine="triton", triton_url=triton.url)(installation)
    assert {finding.level for finding in await installation.found()} == {"ok"}
    monkeypatch.setattr("service.local.doctor.DEADLINE_S", 0.5)
    setting(model="absent")(installation)
    wrong = [finding for finding in await installation.found() if finding.level != "ok"]
    assert [(each.level, each.part) for each in wrong] == [("fault", "triton")]
    assert "absent" in wrong[0].seen


async def test_the_exit_status_tells_of_faults_alone(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(weights=installation.toy, model="toy", state=installation.folder / "state")
    slow = replace(WELL, features=frozenset())
    assert await report(settings, WELL, host="127.0.0.1", port=0) == 0
    assert await report(settings, slow, host="127.0.0.1", port=0) == 0
    few = replace(WELL, open_files=10)
    assert await report(settings, few, host="127.0.0.1", port=0) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 faults, 0 warnings"


def test_the_command_names_a_wrong_setting_and_ends_with_1() -> None:
    done = run_tamvt("doctor", settings={"TAMVT_REDIS_URLL": "redis://a"})
    assert done.returncode == 1
    assert "TAMVT_REDIS_URLL is no setting; do you mean TAMVT_REDIS_URL?" in done.stderr
