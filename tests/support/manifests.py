"""What the Helm chart renders, as values to look into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scripts.deploy import check

Resource = dict[str, Any]


def render(values: str, *settings: str) -> Manifests:
    """Render the chart with a values file and these `--set` settings."""
    options = [word for setting in settings for word in ("--set", setting)]
    return Manifests(check.read_resources(check.render(values, *options)))


@dataclass(frozen=True)
class Manifests:
    """The resources of one rendering."""

    resources: list[Resource]

    def of(self, kind: str) -> list[Resource]:
        """Return the resources of a kind."""
        return [resource for resource in self.resources if resource["kind"] == kind]

    def get(self, kind: str, name: str) -> Resource:
        """Return one resource by its kind and its name without the release's."""
        names = {name, f"tamvt-{name}" if name else "tamvt"}
        (found,) = (r for r in self.of(kind) if r["metadata"]["name"] in names)
        return found

    def job(self, component: str) -> Resource:
        """Return the Job of a component, whatever it is called."""
        (found,) = (
            job
            for job in self.of("Job")
            if job["metadata"]["labels"]["app.kubernetes.io/component"] == component
        )
        return found

    def pods(self) -> Iterator[tuple[Resource, Resource]]:
        """Yield each resource that makes pods, with the pods' spec."""
        for kind in ("Deployment", "StatefulSet", "Job"):
            for resource in self.of(kind):
                yield resource, resource["spec"]["template"]["spec"]

    def pod(self, kind: str, name: str) -> Resource:
        """Return the spec of a resource's pods."""
        spec: Resource = self.get(kind, name)["spec"]["template"]["spec"]
        return spec

    def containers(self) -> Iterator[tuple[Resource, Resource]]:
        """Yield every container, and its pod's spec."""
        for _, pod in self.pods():
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                yield container, pod


def container(pod: Resource, name: str) -> Resource:
    """Return a pod's container by name."""
    (found,) = (
        one for one in (*pod.get("initContainers", ()), *pod["containers"]) if one["name"] == name
    )
    result: Resource = found
    return result


def environment(one: Resource) -> dict[str, Resource]:
    """Return a container's variables by name."""
    return {variable["name"]: variable for variable in one.get("env", ())}


def value(one: Resource, name: str) -> str:
    """Return a variable's value as it stands in the manifest."""
    return str(environment(one)[name]["value"])


def mounts(one: Resource) -> dict[str, str]:
    """Return a container's volumes by the path where they are mounted."""
    return {mount["mountPath"]: mount["name"] for mount in one["volumeMounts"]}


def volume(pod: Resource, name: str) -> Resource:
    """Return a pod's volume by name."""
    (found,) = (one for one in pod["volumes"] if one["name"] == name)
    result: Resource = found
    return result


def selects(selector: Resource, resource: Resource) -> bool:
    """Return whether labels to match are among a resource's pods' labels."""
    labels = resource["spec"]["template"]["metadata"]["labels"]
    return bool(selector.items() <= labels.items())
