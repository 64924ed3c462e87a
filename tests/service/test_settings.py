"""Settings come from TAMVT_ variables, once, and a wrong one is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import Misconfigured
from service.settings import Settings, environment_of, read_settings, write_markdown_table
from service.settings.groups import GROUPED


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMVT_MAX_OBJECTS", "5")
    assert read_settings().max_objects == 5


def test_an_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMVT_MAX_OBJECTS", "")
    assert read_settings().max_objects == 32


def test_one_model_is_served_or_those_that_are_named() -> None:
    assert Settings().served_models == ("tamvt-mobile",)
    assert Settings(model="toy").served_models == ("toy",)
    assert Settings(model="toy", models="stm-mobile, toy").served_models == ("stm-mobile", "toy")


@pytest.mark.parametrize("names", ["toy,", "toy,toy", ","])
def test_a_model_is_named_once(names: str) -> None:
    with pytest.raises(ValidationError, match="name each model once"):
        Settings(models=names)


def test_folders_may_begin_with_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(state=Path("~/here")).state == tmp_path / "here"


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_OBJECTS", "0"), ("MAX_OBJECTS", "many"), ("LOG_LEVEL", "loud"), ("THREADS", "-1")],
)
def test_every_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TAMVT_{name}", value)
    monkeypatch.setenv("TAMVT_REDIS_DEADLINE_S", "soon")
    with pytest.raises(Misconfigured, match=r"TAMVT_\w+: .*; TAMVT_\w+: ") as caught:
        read_settings()
    assert f"TAMVT_{name}: " in str(caught.value)


def test_a_misspelt_name_stops_the_start_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAMVT_MAX_OBJECT", "5")
    with pytest.raises(Misconfigured) as caught:
        read_settings()
    assert str(caught.value) == "TAMVT_MAX_OBJECT is no setting; do you mean TAMVT_MAX_OBJECTS?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TAMVT_DATA", "/data"),
        ("TAMVT_SERVICE_HOST", "10.0.0.1"),
        ("TAMVT_SERVICE_PORT_HTTP", "8000"),
        ("TAMVT_PORT", "tcp://10.0.0.1:8000"),
        ("TAMVT_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("TAMVT_REDIS_PORT", "tcp://10.0.0.2:6379"),
    ],
)
def test_what_others_set_beside_the_settings_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    read_settings()


def test_an_address_of_kubernetes_is_one_in_a_name_of_a_port_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAMVT_TRITON_URLL", "tcp://10.0.0.1:8001")
    with pytest.raises(Misconfigured, match="do you mean TAMVT_TRITON_URL"):
        read_settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().max_objects = 3


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert len(write_markdown_table().splitlines()) == 2 + len(Settings.model_fields)


def test_no_default_names_a_place_on_this_machine() -> None:
    assert str(Path(__file__).parents[2]) not in write_markdown_table()


def read_file(tmp_path: Path, text: str, **flags: object) -> Settings:
    path = tmp_path / "tamvt.toml"
    path.write_text(text)
    return read_settings(path, flags)


def test_a_file_names_settings_by_group_or_alone(tmp_path: Path) -> None:
    settings = read_file(
        tmp_path,
        """
        threads = 3
        [redis]
        url = "redis://store:6379"
        [access]
        allowed_hosts = ["a.example", "b.example"]
        tickets_required = true
        """,
    )
    assert (settings.threads, settings.redis_url) == (3, "redis://store:6379")
    assert settings.allowed_hosts == "a.example,b.example"
    assert settings.tickets_required


def test_flags_come_before_variables_and_those_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "[sessions]\nmax_objects = 5\nttl_s = 6\n[engine]\nthreads = 7\n"
    monkeypatch.setenv("TAMVT_SESSIONS__TTL_S", "60")
    monkeypatch.setenv("TAMVT_ENGINE_THREADS", "70")
    settings = read_file(tmp_path, text, engine_threads=100, log_level=None)
    assert settings.max_objects == 5
    assert settings.session_ttl_s == 60
    assert settings.engine_threads == 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[redis]\nurll = 'x'", "redis.urll is no setting; do you mean redis.url?"),
        ("max_object = 3", "max_object is no setting; do you mean max_objects?"),
        ("[sessions]\nmax_objects = 0", "tamvt.toml: sessions.max_objects: "),
        ("[redis", "no TOML"),
        ("[tls]\nkey = 'x'", "TAMVT_TLS_CERTIFICATE"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read_file(tmp_path, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"--config .*absent.toml: No such file"):
        read_settings(tmp_path / "absent.toml")


def test_a_wrong_flag_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"^--log-level: "):
        read_settings(flags={"log_level": "loud"})


def test_two_names_of_one_setting_may_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMVT_REDIS__URL", "redis://a")
    monkeypatch.setenv("TAMVT_REDIS_URL", "redis://a")
    assert read_settings().redis_url == "redis://a"
    monkeypatch.setenv("TAMVT_REDIS_URL", "redis://b")
    with pytest.raises(Misconfigured, match=r"TAMVT_REDIS__URL.*TAMVT_REDIS_URL"):
        read_settings()


def test_every_setting_has_one_name_in_one_group() -> None:
    assert sorted(GROUPED.values()) == sorted(Settings.model_fields)
    assert not set(GROUPED) & set(Settings.model_fields)


def test_another_process_gets_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMVT_REDIS__URL", "redis://a")
    settings = read_file(tmp_path, "[access]\ntickets_required = true", weights=tmp_path)
    given = environment_of(settings)
    assert "TAMVT_REDIS__URL" not in given
    for name in list(os.environ):
        if name.startswith("TAMVT_"):
            monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert read_settings() == settings
