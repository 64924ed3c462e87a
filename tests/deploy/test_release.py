"""A release is one: the same version everywhere, its notes, and last version's import."""

from __future__ import annotations

import json
import re
import tomllib
import warnings

import pytest
import yaml

import tamvt_client
from scripts.deploy.check import CHART, ROOT


def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def test_every_package_has_the_same_version() -> None:
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
    package = json.loads((ROOT / "clients/javascript/package.json").read_text())
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    told = {client["version"], package["version"], chart["appVersion"], str(citation["version"])}
    assert told == {version()}
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"tamvt-client=={version()}" in needed


def test_the_images_that_the_documents_build_are_of_this_version() -> None:
    page = (ROOT / "deploy" / "kubernetes" / "README.md").read_text()
    tags = re.findall(r"/tamvt-\w+:(\S+)", page)
    overlay = (ROOT / "deploy" / "kubernetes" / "overlay" / "kustomization.yaml").read_text()
    tags += re.findall(r"newTag: ([^}\s]+)", overlay)
    assert len(tags) >= 5
    assert set(tags) == {version()}


def test_the_notes_say_how_to_upgrade() -> None:
    notes = (ROOT / "CHANGELOG.md").read_text()
    (this,) = re.findall(
        rf"^## \[{re.escape(version())}\] - \d{{4}}-\d\d-\d\d\n(.*?)^## \[", notes, re.M | re.S
    )
    assert "### Upgrade notes" in this
    assert "service.client" in this


def test_the_import_of_the_version_before_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match="from tamvt_client import Client"):
        from service.client import Client
    assert Client is tamvt_client.Client
    with warnings.catch_warnings(), pytest.raises(ImportError):
        from service.client import nothing_of_that_name  # noqa: F401
