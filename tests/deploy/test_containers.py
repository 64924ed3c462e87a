"""The Dockerfile and the Compose file: what is pinned, who runs it, what it may hold."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.deploy import check, stack
from scripts.deploy.check import CHART, ROOT, CheckFailed
from scripts.deploy.images import TARGETS, list_sent_files, read_stages
from service.settings import Settings
from tests.support.redis_servers import guarded_redis

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
REDIS = ROOT / "deploy" / "compose" / "redis.conf"
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_the_three_targets_run_as_nobody() -> None:
    stages = read_stages(DOCKERFILE)
    assert set(TARGETS) == {"gateway", "triton", "trainer"}
    for name in TARGETS:
        users = [rest for word, rest in stages[name].steps if word == "USER"]
        assert users[-1] == "10001:10001"


def test_every_image_has_an_exact_version() -> None:
    images = re.findall(r"^ARG \w+_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    images += [one["image"] for one in SERVICES.values() if "image" in one]
    assert len(images) >= 6
    for image in images:
        assert re.search(r":v?\d+\.\d+(\.\d+)?[\w.-]*$", image), image


def test_every_package_comes_from_a_lock() -> None:
    installs = re.findall(r"pip install ((?:[^&\n]|\\\n)*)", DOCKERFILE)
    assert len(installs) >= 6
    for words in installs:
        is_own = "--no-deps ./clients/python ." in words
        assert (
            is_own
            or "--require-hashes -r " in words
            or words.strip().startswith("--no-cache-dir torch==2.13.0")
        ), words


def test_what_is_copied_is_sent_to_the_builder() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    for path in (word for words in copied for word in words.split()):
        assert (ROOT / path).exists(), path
        assert any(path == kept or path.startswith(f"{kept}/") for kept in list_sent_files()), path


def test_hadolint_finds_a_package_without_a_version(tmp_path: Path) -> None:
    wrong = DOCKERFILE.replace("--require-hashes -r /opt/tamvt/backend.txt", "numpy")
    (tmp_path / "Dockerfile").write_text(wrong)
    with pytest.raises(CheckFailed, match="DL3013"):
        check.check_dockerfile(tmp_path / "Dockerfile")


def test_the_schema_finds_a_word_that_compose_does_not_know() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    check.check_compose(text)
    with pytest.raises(CheckFailed, match="mem_limits"):
        check.check_compose(text.replace("mem_limit:", "mem_limits:", 1))


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert not service.get("privileged")


def test_the_profiles_are_those_of_the_documents() -> None:
    profiles = {word for one in SERVICES.values() for word in one.get("profiles", [])}
    assert profiles == {"triton", "gpu", "train", "observability", "tls"}
    default = {name for name, one in SERVICES.items() if "profiles" not in one}
    assert default == {"gateway", "redis"}


def test_only_the_proxy_is_reached_from_other_machines() -> None:
    open_to_all = {
        name
        for name, one in SERVICES.items()
        for port in one.get("ports", ())
        if not port.startswith("127.0.0.1:")
    }
    assert open_to_all == {"proxy"}
    assert COMPOSE["networks"]["store"] == {"internal": True}
    assert SERVICES["redis"]["networks"] == ["store"]


def test_every_setting_in_the_compose_file_exists() -> None:
    known = {f"TAMVT_{name.upper()}" for name in Settings.model_fields}
    named = {word for one in SERVICES.values() for word in one.get("environment", {})}
    assert {word for word in named if word.startswith("TAMVT_")} <= known


@pytest.mark.parametrize("name", ["gateway", "gateway-triton", "gateway-gpu"])
def test_a_gateway_is_ready_for_the_proxy(name: str) -> None:
    settings = SERVICES[name]["environment"]
    for setting in ("TAMVT_MAX_PEER_CONNECTIONS", "TAMVT_SHUTDOWN_DELAY_S"):
        assert settings[setting] == stack.GATEWAY[setting]
    defaults = Settings()
    assert settings["TAMVT_MAX_PEER_CONNECTIONS"] == str(defaults.max_connections)
    delay_s = float(settings["TAMVT_SHUTDOWN_DELAY_S"])
    assert delay_s > 2 * stack.CHECKED_S
    grace_s = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace_s > delay_s + defaults.shutdown_grace_s


def test_a_gateways_memory_has_room_for_its_banks_and_uploads() -> None:
    (most,) = re.findall(r"^\$\{GATEWAY_MEMORY:-(\d+)g\}$", SERVICES["gateway"]["mem_limit"])
    settings = Settings()
    at_the_start = 500e6  # docs/runbook.md, "Sizing"
    assert int(most) * 2**30 > at_the_start + settings.bank_bytes + settings.max_request_bytes


def test_a_gpu_is_reserved_where_it_is_used() -> None:
    (device,) = SERVICES["triton-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert [name for name, one in SERVICES.items() if "deploy" in one] == ["triton-gpu"]


def test_triton_serves_the_images_model_or_what_the_trainer_left() -> None:
    """The command of Compose is that of the image, but for the repository."""
    (text,) = (rest for word, rest in read_stages(DOCKERFILE)["triton"].steps if word == "CMD")
    for name in ("triton", "triton-gpu"):
        command = [
            re.sub(r"\$\{MODEL_REPOSITORY:-(.*)\}", r"\1", word)
            for word in SERVICES[name]["command"]
        ]
        assert command == json.loads(text)
        assert "models:/trained:ro" in SERVICES[name]["volumes"]
    assert "models:/models" in SERVICES["trainer"]["volumes"]


def test_prometheus_asks_only_for_what_runs() -> None:
    """By the names that Docker knows now: a target of a profile that is not run pages for ever."""
    file = ROOT / "deploy/compose/prometheus.yml"
    jobs = yaml.safe_load(file.read_text())["scrape_configs"]
    found = {name: each for job in jobs for each in job["dns_sd_configs"] for name in each["names"]}
    asked = {name for name in SERVICES if name.startswith(("gateway", "triton"))}
    assert found.keys() == asked
    assert {each["type"] for each in found.values()} == {"A"}
    assert not any("static_configs" in job for job in jobs)
    command = ["promtool", "check", "config", "--syntax-only", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_who_is_told_to_start_compose_is_told_of_its_password() -> None:
    """Compose reads the whole file: without REDIS_PASSWORD no profile starts."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    texts = {path: path.read_text() for path in pages if "node_modules" not in path.parts}
    told = {path for path, text in texts.items() if re.search(r"docker compose .*\bup\b", text)}
    assert len(told) >= 4
    assert {path for path in told if "REDIS_PASSWORD" not in texts[path]} == set()


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = [word for one in SERVICES.values() for word in one.get("volumes", ())]
    files = [word.split(":")[0] for word in mounted if word.startswith("./deploy/compose")]
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_redis_of_compose_asks_for_its_password(tmp_path: Path) -> None:
    """Its own command and configuration, run with a real Redis in other folders."""
    script = SERVICES["redis"]["command"][-1].replace("$$", "$")
    with guarded_redis(tmp_path, script=script, config=REDIS.read_text()) as server:
        assert server.answers()


def test_the_redis_of_compose_is_set_as_that_of_the_chart() -> None:
    chart = (CHART / "files" / "redis.conf").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert REDIS.read_text() == f"{chart}maxmemory {values['redis']['maxmemory']}\n"
