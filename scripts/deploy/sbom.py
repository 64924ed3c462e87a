"""Write a bill of materials of each image's packages, as CycloneDX 1.6 in JSON.

    python -m scripts.deploy.sbom FOLDER

Made of the locks from which the images are built: every package with its version, where it comes
from, the hashes that are allowed, and its license where it is installed here. The same locks give
the same bytes. What the base images hold is not in it: their vendors' own bills tell that.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
import uuid
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"gateway": "gateway", "trainer": "trainer", "triton": "backend"}
OWN = ("tamvt-serve", "tamvt-client")
TORCH = re.compile(r"torch==([\d.]+)")
PACKAGE = re.compile(
    r"^([\w.-]+)==(\S+)(?: ;[^\\\n]*)?((?:[ \\\n]+--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE
)


def find_license(name: str, version: str) -> list[dict[str, Any]]:
    """Return a package's license as CycloneDX has it; nothing where this version is not here."""
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return []
    if told["Version"].partition("+")[0] != version:
        return []
    if expression := told["License-Expression"]:
        return [{"expression": expression}]
    classes = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier") or ()
        if line.startswith("License :: ")
    ]
    return [{"license": {"name": each}} for each in classes]


def describe_component(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    """Return one package as CycloneDX has it."""
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    made: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version}
    made["purl"] = purl
    if licenses := find_license(name, version):
        made["licenses"] = licenses
    if hashes:
        allowed = [{"alg": "SHA-256", "content": each} for each in hashes]
        url = f"https://pypi.org/project/{name}/{version}/"
        made["externalReferences"] = [{"type": "distribution", "url": url, "hashes": allowed}]
    return made


def make_bill(image: str) -> dict[str, Any]:
    """Return the bill of materials of an image's packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    lock = (ROOT / "requirements" / f"{IMAGES[image]}.txt").read_text(encoding="utf-8")
    parts = [
        describe_component(name, number, re.findall(r"sha256:([0-9a-f]{64})", hashes))
        for name, number, hashes in PACKAGE.findall(lock)
    ]
    if image != "triton":
        parts += [describe_component(name, version, []) for name in OWN]
    if image == "trainer":
        found = TORCH.search((ROOT / "Dockerfile").read_text(encoding="utf-8"))
        assert found is not None
        parts.append(describe_component("torch", found[1], []))
    parts.sort(key=lambda part: str(part["purl"]))
    root = {"type": "container", "bom-ref": image, "name": f"tamvt-{image}", "version": version}
    made: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": parts,
        "dependencies": [{"ref": image, "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(made, sort_keys=True))
    return {**made, "serialNumber": f"urn:uuid:{serial}"}


def main() -> None:
    """Write a file for each image."""
    parser = argparse.ArgumentParser(description="Write a bill of materials of each image.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        path = folder / f"{image}.cdx.json"
        path.write_text(json.dumps(make_bill(image), indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
