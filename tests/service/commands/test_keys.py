"""`tamvt keys` and `tamvt serve` as processes: keys open the service, and are found nowhere."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from service.commands.keys import read_duration
from service.errors import Misconfigured
from tamvt_client import Client
from tests.service.stream.talk import talk
from tests.support import scene
from tests.support.issuer import AUDIENCE, small_issuer
from tests.support.otlp import running_collector
from tests.support.running import ROOT, Api, environment, run_tamvt, running_service, tamvt


def test_a_key_is_made_listed_used_and_revoked(tmp_path: Path, toy_folder: Path) -> None:
    settings = {"TAMVT_KEYS": str(tmp_path / "keys.json")}

    keys = partial(run_keys, settings)
    key = keys("create", "--tenant", "ann", "--expires", "2d", "--comment", "laptop").strip()
    assert key.startswith("tamvt_")
    key_id, secret = key.split("_", 2)[1:]
    admin = keys("create", "--tenant", "ops", "--scopes", "admin").strip()
    listed = keys("list")
    assert f"{key_id}  valid    ann              read,write" in listed
    assert "laptop" in listed
    assert secret not in listed
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        small_issuer() as issuer,
        running_collector() as collector,
        running_service(
            state=tmp_path / "state",
            weights=toy_folder,
            settings={
                **settings,
                "TAMVT_OIDC_ISSUER": issuer.url,
                "TAMVT_OIDC_AUDIENCE": AUDIENCE,
                "TAMVT_OTLP_ENDPOINT": collector.url,
                "TAMVT_LOG_LEVEL": "debug",
            },
            stderr=stderr,
        ) as service,
        httpx.Client(base_url=service.url, timeout=60) as http,
    ):
        token = issuer.sign()
        http.headers["Authorization"] = f"Bearer {key}"
        session = Api(http).start()
        ticket = stream_with_tickets(service.url, session, key)
        as_token = {"Authorization": f"Bearer {token}"}
        answers = [
            http.get("/metrics"),
            http.get(f"/v1/models?key={key}"),
            http.get(f"/v1/models?token={token}", headers=as_token),
        ]
        assert [each.status_code for each in answers] == [403, 422, 422]
        answers.append(http.get("/metrics", headers={"Authorization": f"Bearer {admin}"}))
        assert "tamvt_tenant_frames_total" in answers[-1].text
        assert http.get("/v1/models", headers=as_token).status_code == 200
        for wrong in (f"{key}x", issuer.sign(aud="another")):
            refused = http.get("/v1/models", headers={"Authorization": f"Bearer {wrong}"})
            assert refused.status_code == 401
        shown = [" ".join(each.cmdline()) for each in family(service.process.pid)]
        keys("revoke", key_id)
        answers.append(http.get(f"/v1/sessions/{session}"))
        assert answers[-1].status_code == 401
    assert collector.bodies
    left = [*shown, *(each.text for each in answers), *map(repr, collector.bodies)]
    for unspoken in (secret, admin.split("_", 2)[2], token.rpartition(".")[2], ticket):
        assert [text for text in [*left, *contents(tmp_path)] if unspoken in text] == []
    audited = log.read_text()
    for event in ("unknown key", "without admin", f"revoked key {key_id}", "InvalidAudience"):
        assert event in audited
    assert "open: " not in audited


def stream_with_tickets(url: str, session: str, key: str) -> str:
    """Open two streams of a session with tickets; return that of the second."""
    with Client(url, key=key) as client:
        frames = [scene.jpeg(number) for number in (1, 2)]
        assert len(list(client.stream(session, frames, first_frame=1, with_tickets=True))) == 2
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{url}/v1/sessions/{session}/tickets", headers=headers, timeout=60)
    ticket = str(answer.json()["ticket"])
    with talk(url, session, ticket=ticket):
        return ticket


def run_keys(settings: dict[str, str], *words: str) -> str:
    """What `tamvt keys` prints."""
    done = run_tamvt("keys", *words, settings=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> list[str]:
    """What all files in the folder hold."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.read_bytes().decode(errors="replace") for path in files]


def family(pid: int) -> list[psutil.Process]:
    """The process and its children."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list",), "there is no file"),
        (("revoke", "0123"), "there is no"),
        (("create", "--tenant", "a}b"), "'a}b'"),
        (("create", "--tenant", "ann", "--expires", "soon"), "12h or 90d"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    settings = {"TAMVT_KEYS": str(tmp_path / "keys.json")}
    done = run_tamvt("keys", *words, settings=settings)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert said in line


def test_keys_are_audited_in_the_form_that_the_log_has(tmp_path: Path) -> None:
    settings = {"TAMVT_KEYS": str(tmp_path / "keys.json"), "TAMVT_LOG_FORMAT": "json"}
    made = run_tamvt("keys", "create", "--tenant", "ann", settings=settings)
    (line,) = made.stderr.splitlines()
    assert json.loads(line)["tenant"] == "ann"


def test_a_duration_is_hours_or_days() -> None:
    assert read_duration("12h").total_seconds() == 12 * 3600
    assert read_duration("90d").days == 90
    for wrong in ("", "12", "h", "-1d", "1w", "999999d"):
        with pytest.raises(Misconfigured):
            read_duration(wrong)


def test_an_open_service_stays_on_loopback_or_says_that_it_is_meant(
    tmp_path: Path, toy_folder: Path
) -> None:
    settings = {
        "TAMVT_STATE": str(tmp_path),
        "TAMVT_WEIGHTS": str(toy_folder),
        "TAMVT_MODEL": "toy",
    }
    done = run_tamvt("serve", "--host", "0.0.0.0", "--port", "0", settings=settings)
    assert done.returncode == 1
    assert "TAMVT_OPEN_ACCESS=true" in done.stderr
    process = subprocess.Popen(
        tamvt("serve", "--host", "0.0.0.0", "--port", "0"),
        cwd=ROOT,
        env=environment({**settings, "TAMVT_OPEN_ACCESS": "true"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert line.startswith("listening on http://0.0.0.0:"), stderr
    assert "open: no key is asked for" in stderr


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"TAMVT_KEYS": "redis", "TAMVT_TENANT_HEADER": "X-Tenant"}, "TAMVT_TENANT_HEADER"),
        ({"TAMVT_OIDC_ISSUER": "https://issuer.example"}, "TAMVT_OIDC_AUDIENCE"),
        ({"TAMVT_KEYS": "absent.json"}, "TAMVT_KEYS"),
        ({"TAMVT_TRUSTED_PROXIES": "10.0.0.0/99"}, "TAMVT_TRUSTED_PROXIES"),
    ],
)
def test_contradictory_settings_of_access_stop_the_start(
    tmp_path: Path, toy_folder: Path, settings: dict[str, str], named: str
) -> None:
    own = {"TAMVT_STATE": str(tmp_path), "TAMVT_WEIGHTS": str(toy_folder), "TAMVT_MODEL": "toy"}
    done = run_tamvt("serve", "--port", "0", settings={**own, **settings})
    assert done.returncode == 1
    assert named in done.stderr.splitlines()[-1]
