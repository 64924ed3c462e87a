"""What docs/how-to-add-a-model.md says is true: its network is trained, exported and served."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.export.graph_export import export
from model.networks.registry import NETWORKS, Blueprint
from model.training.trainer import Trainer
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, running_service

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/how-to-add-a-model.md").read_text(encoding="utf-8")
FAMILIES = sorted(path.parent.name for path in (ROOT / "model/networks").glob("*/build.py"))
# What is faster when it is served replaces parts of one network: the only other door to it.
REPLACED_BY = ("model/export/replacements/", "model/export/serving.py")


def read_sources(*folders: str) -> dict[str, str]:
    """The text of every source file in these folders, by its path."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in paths
        if path.suffix in (".py", ".js")
    }


def test_a_network_is_known_to_its_folder_and_the_registry_alone() -> None:
    strangers = []
    for family in FAMILIES:
        doors = (f"model/networks/{family}/", "model/networks/registry.py", *REPLACED_BY)
        strangers += [
            f"{path} knows {family}"
            for path, text in read_sources("model", "service", "tamvt", "clients").items()
            if f"model.networks.{family}." in text and not path.startswith(doors)
        ]
    assert FAMILIES == ["qmvos", "stm", "stma", "tamvt"]
    assert strangers == []


def test_what_serves_knows_no_build_but_the_default() -> None:
    names = [
        re.compile(rf"\b{re.escape(name)}\b(?!-)") for name in NETWORKS if name != "tamvt-mobile"
    ]
    named = {
        path: pattern.pattern
        for path, text in read_sources("service", "tamvt", "clients").items()
        for pattern in names
        if pattern.search(text)
    }
    assert named == {}


def test_the_files_that_the_page_names_are_there() -> None:
    paths = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert [path for path in paths if not (ROOT / "docs" / path).exists()] == []
    assert len(paths) > 10


@pytest.mark.timeout(300)  # an export takes long on a busy machine
def test_the_network_of_the_page_is_trained_exported_and_served(
    drawn_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the page's code and the session is nothing but the registry."""
    code: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, code)  # the page's own code
    (config,) = code["MEANCOLOR_BUILDS"]
    monkeypatch.setitem(NETWORKS, config.name, Blueprint(config, code["build_meancolor"]))
    recipe = replace(code["meancolor"](drawn_data), device="cpu", half=False)
    trainer = Trainer(recipe, tmp_path)
    trainer.run(workers=0)
    assert trainer.step == 1
    spec = export(trainer.model.eval(), tmp_path / "graphs")
    assert (spec.name, spec.contract) == ("meancolor-mini", 1)
    with (
        running_service(
            state=tmp_path,
            weights=tmp_path / "graphs",
            settings={"TAMVT_MODELS": config.name},
        ) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE_S) as http,
    ):
        api = Api(http)
        session = api.start(objects=2)
        answer = api.append(session, [scene.jpeg(number) for number in (1, 2, 3)], first=1)
        assert answer.status_code == 200, answer.text
        assert api.state(session)["model"] == config.name
        assert len(api.masks(session).json()["frames"]) == 4
