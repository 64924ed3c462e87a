"""Settings come from TAMVT_ variables, once, and a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import Misconfigured
from service.settings import Settings, markdown_table, read_settings


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


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().max_objects = 3


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert len(markdown_table().splitlines()) == 2 + len(Settings.model_fields)


def test_no_default_names_a_place_on_this_machine() -> None:
    assert str(Path(__file__).parents[2]) not in markdown_table()
