"""What an image is made of is told in CycloneDX, completely and always in the same way."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cyclonedx.schema
import jsonschema_rs
import pytest

from scripts.deploy.sbom import IMAGES, ROOT, make_bill

SCHEMAS = Path(cyclonedx.schema.__file__).parent / "_res"


@pytest.mark.parametrize("image", IMAGES)
def test_a_bill_is_cyclonedx_by_its_schema(image: str) -> None:
    schema = json.loads((SCHEMAS / "bom-1.6.SNAPSHOT.schema.json").read_text())
    others = [
        (schema["$id"].rpartition("/")[0] + f"/{name}", json.loads((SCHEMAS / name).read_text()))
        for name in ("spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")
    ]
    registry = jsonschema_rs.Registry(others)
    validator = jsonschema_rs.validator_for(schema, registry=registry)
    assert [error.message for error in validator.iter_errors(make_bill(image))] == []


@pytest.mark.parametrize("image", IMAGES)
def test_a_bill_names_every_package_of_the_lock(image: str) -> None:
    lock = (ROOT / "requirements" / f"{IMAGES[image]}.txt").read_text()
    locked = set(re.findall(r"^([\w.-]+)==([\w.+!-]+)", lock, re.MULTILINE))
    told = {(part["name"], part["version"]) for part in make_bill(image)["components"]}
    assert locked <= told
    assert len(locked) > 4


def test_a_bill_tells_hashes_and_licenses() -> None:
    (numpy,) = (part for part in make_bill("gateway")["components"] if part["name"] == "numpy")
    (source,) = numpy["externalReferences"]
    assert all(len(each["content"]) == 64 for each in source["hashes"])
    assert numpy["licenses"]


def test_the_same_locks_give_the_same_bill() -> None:
    assert make_bill("trainer") == make_bill("trainer")
    assert make_bill("trainer")["serialNumber"] != make_bill("gateway")["serialNumber"]
    assert "torch" in {part["name"] for part in make_bill("trainer")["components"]}
