"""What the chart renders is what the service needs: pods, probes, ends, scaling."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from scripts.deploy import check
from scripts.deploy.check import CHART, VALUES, CheckFailed
from scripts.observability.check import list_series
from service.settings import Settings
from tests.deploy.conftest import Render
from tests.support.manifests import Resource, container, environment, mounts, selects, value, volume

REMOTE = ("engine.pairing=remote",)


def test_a_wrong_field_is_found_by_the_strict_schemas() -> None:
    manifests = check.render("cpu").replace("runAsNonRoot:", "runAsNoRoot:")
    with pytest.raises(CheckFailed, match="runAsNoRoot"):
        check.check_manifests(manifests)


def test_a_wrong_value_of_a_custom_resource_is_found() -> None:
    manifests = check.render("gpu").replace("request: 0s", "request: forever")
    with pytest.raises(CheckFailed, match="HTTPRoute"):
        check.check_manifests(manifests)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("gateway.replica=3", "replica"),
        ("engine.kind=torch", "kind"),
        ("engine.pairing=host", "pairing"),
        ("gateway.replicas=0", "replicas"),
        ("gateway.resources.limits.memory=lots", "memory"),
        ("gateway.settings.REDIS=1", "REDIS"),
        ("gateway.settings.TAMVT_REDIS_URL=redis://elsewhere", "TAMVT_REDIS_URL"),
        ("redis.mode=external", "egress"),
        ("redis.tls.enabled=true", "certSecret"),
        ("route.enabled=true", "hostnames"),
        ("triton.repository.from=volume", "claim"),
        ("triton.engines.claim=plans", "gpu"),
        ("images.gateway.digest=latest", "digest"),
        ("route.removeHeaders=null", "removeHeaders"),
    ],
)
def test_values_that_make_no_sense_are_refused(setting: str, said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        check.render("cpu", "--set", setting)


def walk(schema: Resource, path: str) -> Iterator[tuple[str, Resource]]:
    """Yield each value that a schema names, by its path; where some are named, no others go."""
    if "properties" in schema:
        assert schema.get("additionalProperties") is False, path
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from walk(inner, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(inner := schema.get(word), dict):
            yield from walk(inner, f"{path}[]")


def test_the_schema_explains_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    named = list(walk(schema, ""))
    named += [each for name, part in schema["$defs"].items() for each in walk(part, name)]
    assert len(named) > 100
    assert [path for path, inner in named if not {"description", "$ref"} & set(inner)] == []


@pytest.mark.parametrize("values", VALUES)
def test_every_setting_of_the_gateway_exists(rendered: Render, values: str) -> None:
    gateway = container(rendered(values).pod("Deployment", "gateway"), "gateway")
    named = {name for name in environment(gateway) if name.startswith("TAMVT_")}
    known = {f"TAMVT_{name.upper()}" for name in Settings.model_fields}
    assert "TAMVT_REDIS_URL" in named
    assert named <= known


def test_the_model_has_as_many_threads_as_the_pod_asks_for(rendered: Render) -> None:
    """By itself it takes one for each processor of the node."""
    name = "TAMVT_ENGINE_THREADS"
    gateway = container(rendered("cpu").pod("Deployment", "gateway"), "gateway")
    source = {"resourceFieldRef": {"containerName": "gateway", "resource": "requests.cpu"}}
    assert environment(gateway)[name]["valueFrom"] == source
    assert "cpu" in gateway["resources"]["requests"]
    chosen = rendered("cpu", f"gateway.settings.{name}=3").pod("Deployment", "gateway")
    (given,) = (each for each in container(chosen, "gateway")["env"] if each["name"] == name)
    assert given["value"] == "3"
    with_triton = rendered("gpu").pod("Deployment", "gateway")
    assert name not in environment(container(with_triton, "gateway"))
    triton = container(with_triton, "triton")
    source["resourceFieldRef"]["containerName"] = "triton"
    assert environment(triton)[name]["valueFrom"] == source


def test_a_setting_of_the_values_reaches_the_gateway(rendered: Render) -> None:
    chart = rendered("cpu", "gateway.settings.TAMVT_SESSION_TTL_S=600")
    gateway = container(chart.pod("Deployment", "gateway"), "gateway")
    assert value(gateway, "TAMVT_SESSION_TTL_S") == "600"
    assert value(gateway, "TAMVT_MAX_PEER_CONNECTIONS") == "1000"  # of the proxy's one address


@pytest.mark.parametrize("values", VALUES)
def test_every_metric_that_is_asked_for_exists(rendered: Render, values: str) -> None:
    asking = [each for each in rendered(values).resources if each["kind"] != "PrometheusRule"]
    asked = set(re.findall(r"\btamvt_\w+", str(asking)))
    assert asked <= list_series()
    assert "tamvt_streams_open" in asked


def test_a_gateways_memory_has_room_for_its_banks_and_uploads(rendered: Render) -> None:
    gateway = container(rendered("cpu").pod("Deployment", "gateway"), "gateway")
    limit = float(gateway["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    settings = Settings()
    at_the_start = 500e6  # docs/runbook.md, "Sizing"
    assert limit > at_the_start + settings.bank_bytes + settings.max_request_bytes


def test_an_image_is_taken_by_its_digest_before_its_tag(rendered: Render) -> None:
    digest = "sha256:" + "ab" * 32
    chart = rendered("cpu", f"images.gateway.digest={digest}", "images.gateway.tag=latest")
    gateway = container(chart.pod("Deployment", "gateway"), "gateway")
    assert gateway["image"] == f"tamvt-gateway@{digest}"


@pytest.mark.parametrize("values", VALUES)
def test_no_image_goes_by_a_name_that_moves(rendered: Render, values: str) -> None:
    for one, _ in rendered(values).containers():
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d+\.\d+[\w.-]*", one["image"]), one["image"]


# Triton: where it is, and what it is given.


def test_in_one_pod_both_share_memory(rendered: Render) -> None:
    pod = rendered("gpu").pod("Deployment", "gateway")
    gateway, triton = container(pod, "gateway"), container(pod, "triton")
    assert mounts(gateway)["/dev/shm"] == mounts(triton)["/dev/shm"]
    shared = volume(pod, mounts(triton)["/dev/shm"])["emptyDir"]
    assert shared["medium"] == "Memory"
    assert shared["sizeLimit"] == "2Gi"
    assert pod["securityContext"]["runAsUser"] == 10001  # of both: regions have mode 0600
    assert value(gateway, "TAMVT_TRITON_SHARED_MEMORY") == "true"
    assert value(gateway, "TAMVT_TRITON_URL") == "127.0.0.1:8001"
    assert "--allow-client-shm=true" in triton["args"]


def test_triton_in_the_pod_starts_first_and_ends_last(rendered: Render) -> None:
    pod = rendered("gpu").pod("Deployment", "gateway")
    assert container(pod, "triton")["restartPolicy"] == "Always"
    assert "triton" in [one["name"] for one in pod["initContainers"]]


def test_on_one_node_gateways_ask_their_neighbor(rendered: Render) -> None:
    chart = rendered("gpu-tensorrt")
    pod = chart.pod("Deployment", "gateway")
    (rule,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert selects(rule["labelSelector"]["matchLabels"], chart.get("Deployment", "triton"))
    assert chart.get("Service", "triton")["spec"]["internalTrafficPolicy"] == "Local"
    assert value(container(pod, "gateway"), "TAMVT_TRITON_SHARED_MEMORY") == "false"


def test_a_triton_elsewhere_is_asked_without_a_balancer(rendered: Render) -> None:
    chart = rendered("gpu", *REMOTE)
    assert chart.get("Service", "triton")["spec"]["clusterIP"] == "None"
    gateway = container(chart.pod("Deployment", "gateway"), "gateway")
    assert value(gateway, "TAMVT_TRITON_URL") == "tamvt-triton:8001"
    assert value(gateway, "TAMVT_TRITON_SHARED_MEMORY") == "false"
    triton = container(chart.pod("Deployment", "triton"), "triton")
    assert "--allow-client-shm=true" not in triton["args"]


@pytest.mark.parametrize(("values", "name"), [("gpu", "gateway"), ("gpu-tensorrt", "triton")])
def test_triton_gets_a_gpu_and_the_gateway_none(rendered: Render, values: str, name: str) -> None:
    chart = rendered(values)
    triton = container(chart.pod("Deployment", name), "triton")
    assert triton["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert triton["resources"]["requests"]["nvidia.com/gpu"] == 1
    gateway = container(chart.pod("Deployment", "gateway"), "gateway")
    assert "nvidia.com/gpu" not in gateway["resources"]["limits"]


def test_plans_are_built_once_for_each_gpu_version_and_model(rendered: Render) -> None:
    (first,) = (j for j in rendered("gpu-tensorrt").of("Job") if "engines" in j["metadata"]["name"])
    names = {first["metadata"]["name"]}
    for change in ("gpu=NVIDIA-H200", "tensorrt=11.0", "modelSha256=0123456789ab"):
        (job,) = (
            j
            for j in rendered("gpu-tensorrt", f"triton.engines.{change}").of("Job")
            if "engines" in j["metadata"]["name"]
        )
        names.add(job["metadata"]["name"])
    assert len(names) == 4


@pytest.mark.parametrize(
    ("component", "image", "resources"),
    [
        ("engines", "triton", "triton"),
        ("trainer", "trainer", "training"),
        ("batch", "gateway", "batch"),
    ],
)
def test_a_job_that_would_be_changed_is_another_job(
    rendered: Render, component: str, image: str, resources: str
) -> None:
    """Kubernetes refuses to change what a Job runs: `helm upgrade` would fail."""
    changes: tuple[tuple[str, ...], ...] = (
        (),
        (f"images.{image}.tag=9.9.9",),
        (f"{resources}.resources.limits.memory=99Gi",),
    )
    jobs = [rendered("gpu-tensorrt", *change).job(component) for change in changes]
    assert len({job["metadata"]["name"] for job in jobs}) == 3
    labels = jobs[0]["spec"]["template"]["metadata"]["labels"]
    assert {key.partition("/")[2] for key in labels} == {"name", "instance", "component"}


def test_trainers_find_each_other_by_the_name_of_their_job(rendered: Render) -> None:
    chart = rendered("gpu-tensorrt")
    job = chart.job("trainer")
    name = job["metadata"]["name"]
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == name
    assert value(container(pod, "trainer"), "RENDEZVOUS") == f"{name}-0.{name}:29400"
    assert value(container(pod, "trainer"), "PROCESSES") == "8"  # two nodes of four GPUs
    service = chart.get("Service", name)["spec"]
    assert service["clusterIP"] == "None"
    assert selects(service["selector"], job)


def test_triton_waits_for_its_plans_and_serves_those(rendered: Render) -> None:
    pod = rendered("gpu-tensorrt").pod("Deployment", "triton")
    key = value(container(pod, "await-engines"), "KEY")
    assert key == "NVIDIA-L4-11.4-82f33268142d"
    triton = container(pod, "triton")
    assert f"--model-repository=/engines/{key}/repository" in triton["args"]
    assert volume(pod, mounts(triton)["/engines"])["persistentVolumeClaim"]["readOnly"] is True


def test_a_repository_of_a_volume_is_mounted_to_read(rendered: Render) -> None:
    settings = ("triton.repository.from=volume", "triton.repository.claim=ours")
    pod = rendered("gpu", *settings).pod("Deployment", "gateway")
    triton = container(pod, "triton")
    assert "--model-repository=/repository/python" in triton["args"]
    claim = volume(pod, mounts(triton)["/repository"])["persistentVolumeClaim"]
    assert claim == {"claimName": "ours", "readOnly": True}


def test_triton_loads_what_the_training_leaves(rendered: Render) -> None:
    chart = rendered("gpu-tensorrt")
    trainer = chart.job("trainer")["spec"]["template"]["spec"]
    (script,) = container(trainer, "trainer")["args"]
    (backends,) = re.findall(r"for backend in (.*); do\n.*--triton \"/models/\$backend\"", script)
    engines = chart.job("engines")["spec"]["template"]["spec"]
    loaded = value(container(engines, "engines"), "REPOSITORY")
    assert loaded in {f"/repository/{backend}" for backend in backends.split()}
    left = volume(trainer, mounts(container(trainer, "trainer"))["/models"])
    found = volume(engines, mounts(container(engines, "engines"))["/repository"])
    claims = [each["persistentVolumeClaim"]["claimName"] for each in (left, found)]
    assert claims[0] == claims[1]


# How pods start and end.


@pytest.mark.parametrize("values", VALUES)
def test_probes_outlast_loading_and_warming_up(rendered: Render, values: str) -> None:
    for one, _ in rendered(values).containers():
        if one["name"] not in {"gateway", "triton"}:
            continue
        start = one["startupProbe"]
        patience_s = start["periodSeconds"] * start["failureThreshold"]
        deadline = environment(one).get("TAMVT_TRITON_START_DEADLINE_S")
        assert patience_s >= (float(deadline["value"]) + 30 if deadline else 120)


@pytest.mark.parametrize("values", VALUES)
def test_a_gateway_is_ready_when_work_gets_done(rendered: Render, values: str) -> None:
    gateway = container(rendered(values).pod("Deployment", "gateway"), "gateway")
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"  # a Redis away ends no pod


@pytest.mark.parametrize("grace", [30, 300])
def test_a_pod_has_time_to_drain(rendered: Render, grace: int) -> None:
    pod = rendered("cpu", f"gateway.drain.graceS={grace}").pod("Deployment", "gateway")
    gateway = container(pod, "gateway")
    waits = gateway["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert waits >= 2 * gateway["readinessProbe"]["periodSeconds"]
    assert value(gateway, "TAMVT_SHUTDOWN_GRACE_S") == str(grace)
    assert pod["terminationGracePeriodSeconds"] > waits + grace


@pytest.mark.parametrize("values", VALUES)
def test_a_rollout_takes_no_gateway_before_the_next_is_ready(rendered: Render, values: str) -> None:
    spec = rendered(values).get("Deployment", "gateway")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_a_triton_with_a_gpu_is_replaced_in_its_place(rendered: Render) -> None:
    spec = rendered("gpu-tensorrt").get("Deployment", "triton")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


@pytest.mark.parametrize("values", VALUES)
def test_a_node_is_drained_one_pod_at_a_time(rendered: Render, values: str) -> None:
    """By what may be away: where one pod has to stay, a node with a single one is never drained."""
    chart = rendered(values)
    budgets = chart.of("PodDisruptionBudget")
    assert {b["metadata"]["name"] for b in budgets} == {
        d["metadata"]["name"] for d in chart.of("Deployment")
    }
    for budget in budgets:
        target = chart.get("Deployment", budget["metadata"]["name"])
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]
        assert selects(budget["spec"]["selector"]["matchLabels"], target)


@pytest.mark.parametrize("values", VALUES)
def test_pods_are_spread_over_zones_and_nodes(rendered: Render, values: str) -> None:
    chart = rendered(values)
    for deployment in chart.of("Deployment"):
        rules = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        keys = [rule["topologyKey"] for rule in rules]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        assert all(selects(rule["labelSelector"]["matchLabels"], deployment) for rule in rules)
