"""Who may do what in what the chart renders: users, tokens, secrets, networks, Redis, routes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from scripts.deploy import check
from scripts.deploy.check import CHART, ROOT, VALUES
from scripts.observability.alerts import RULES
from tests.deploy.conftest import Render
from tests.support.manifests import (
    Manifests,
    Resource,
    container,
    environment,
    mounts,
    selects,
    value,
    volume,
)
from tests.support.redis_servers import guarded_redis

TLS = ("redis.tls.enabled=true", "redis.tls.certSecret=certs", "redis.tls.caSecret=authority")


@pytest.mark.parametrize("values", VALUES)
def test_no_container_runs_as_root_or_writes_its_image(rendered: Render, values: str) -> None:
    seen = 0
    for one, pod in rendered(values).containers():
        own = one["securityContext"]
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 10_000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        seen += 1
    assert seen >= 2


@pytest.mark.parametrize("values", VALUES)
def test_what_a_container_writes_to_has_an_end(rendered: Render, values: str) -> None:
    for _, pod in rendered(values).pods():
        for one in pod["volumes"]:
            assert "hostPath" not in one
            assert "emptyDir" not in one or one["emptyDir"]["sizeLimit"], one


@pytest.mark.parametrize("values", VALUES)
def test_every_container_asks_for_what_it_needs_and_has_a_limit(
    rendered: Render, values: str
) -> None:
    for one, _ in rendered(values).containers():
        resources = one["resources"]
        assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["requests"]), one["name"]
        assert {"memory", "ephemeral-storage"} <= set(resources["limits"])


@pytest.mark.parametrize("values", VALUES)
def test_no_pod_holds_a_token_of_the_cluster(rendered: Render, values: str) -> None:
    chart = rendered(values)
    accounts = {one["metadata"]["name"]: one for one in chart.of("ServiceAccount")}
    for _, pod in chart.pods():
        assert pod["automountServiceAccountToken"] is False
        assert accounts[pod["serviceAccountName"]]["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
    assert chart.of("Role") + chart.of("ClusterRole") + chart.of("Secret") == []


@pytest.mark.parametrize("values", VALUES)
def test_secrets_stand_in_secrets_only(rendered: Render, values: str) -> None:
    for one, _ in rendered(values).containers():
        for name, variable in environment(one).items():
            if re.search("PASSWORD|AUTH|SECRET|_KEY$", name):
                assert set(variable["valueFrom"]) == {"secretKeyRef"}, name


def test_a_secret_setting_and_a_secret_file_are_references(rendered: Render) -> None:
    chart = rendered(
        "cpu",
        "gateway.secretSettings.TAMVT_TENANT_HEADER.secret=ours",
        "gateway.secretSettings.TAMVT_TENANT_HEADER.key=header",
        "gateway.secretFiles.keys.secret=tamvt-keys",
    )
    pod = chart.pod("Deployment", "gateway")
    gateway = container(pod, "gateway")
    reference = environment(gateway)["TAMVT_TENANT_HEADER"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "ours", "key": "header"}
    mounted = volume(pod, mounts(gateway)["/etc/tamvt/keys"])["secret"]
    assert mounted["secretName"] == "tamvt-keys"


# Networks.


def policies_for(chart: Manifests, pods: Resource) -> list[Resource]:
    """The policies that hold for a resource's pods."""
    return [
        policy
        for policy in chart.of("NetworkPolicy")
        if selects(policy["spec"]["podSelector"].get("matchLabels", {}), pods)
    ]


@pytest.mark.parametrize("values", VALUES)
def test_what_is_not_allowed_is_denied(rendered: Render, values: str) -> None:
    chart = rendered(values)
    for resource, _ in chart.pods():
        policies = policies_for(chart, resource)
        assert any("ingress" not in p["spec"] and "egress" not in p["spec"] for p in policies)
        assert all(p["spec"]["policyTypes"] == ["Ingress", "Egress"] for p in policies)


@pytest.mark.parametrize("values", VALUES)
def test_no_rule_allows_everybody(rendered: Render, values: str) -> None:
    for policy in rendered(values).of("NetworkPolicy"):
        spec = policy["spec"]
        for rule in spec.get("ingress", []):
            assert rule["from"]
            assert all(peer for peer in rule["from"])
        for rule in spec.get("egress", []):
            assert rule["to"]
            assert all(peer for peer in rule["to"])


@pytest.mark.parametrize(
    ("values", "server", "kind", "port"),
    [("cpu", "redis", "StatefulSet", "redis"), ("gpu-tensorrt", "triton", "Deployment", "grpc")],
)
def test_only_gateways_reach_redis_and_triton(
    rendered: Render, values: str, server: str, kind: str, port: str
) -> None:
    chart = rendered(values)
    (policy,) = (p for p in policies_for(chart, chart.get(kind, server)) if "ingress" in p["spec"])
    (rule,) = (r for r in policy["spec"]["ingress"] if r["ports"][0]["port"] == port)
    (peer,) = rule["from"]
    component = peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
    assert component == "gateway"
    assert "egress" not in policy["spec"]  # neither calls anybody
    (gateway,) = (
        p for p in policies_for(chart, chart.get("Deployment", "gateway")) if "egress" in p["spec"]
    )
    assert any(r["ports"][0]["port"] == port for r in gateway["spec"]["egress"])


def test_gateways_reach_their_own_redis_where_it_is(rendered: Render) -> None:
    (policy,) = (
        p for p in rendered("gpu").of("NetworkPolicy") if p["metadata"]["name"] == "tamvt-gateway"
    )
    blocks = [r["to"][0]["ipBlock"] for r in policy["spec"]["egress"] if "ipBlock" in r["to"][0]]
    assert blocks == [{"cidr": "10.0.0.0/8"}]


# Redis.


def test_a_trial_redis_has_a_password_and_keeps_what_was_told(rendered: Render) -> None:
    chart = rendered("cpu")
    config = chart.get("ConfigMap", "redis")["data"]["redis.conf"].splitlines()
    assert {"appendonly yes", "appendfsync always", "maxmemory-policy noeviction"} <= set(config)
    assert "include /run/redis/auth.conf" in config
    gateway = container(chart.pod("Deployment", "gateway"), "gateway")
    assert value(gateway, "TAMVT_REDIS_URL") == "redis://:$(REDIS_PASSWORD)@tamvt-redis:6379/0"


def test_another_configuration_starts_the_trial_redis_again(rendered: Render) -> None:
    told = set()
    for settings in ((), ("redis.maxmemory=512mb",), TLS):
        pod = rendered("cpu", *settings).get("StatefulSet", "redis")["spec"]["template"]
        told.add(pod["metadata"]["annotations"]["checksum/config"])
    assert len(told) == 3


def test_a_trial_redis_can_be_encrypted(rendered: Render) -> None:
    chart = rendered("cpu", *TLS)
    config = chart.get("ConfigMap", "redis")["data"]["redis.conf"].splitlines()
    assert {"port 0", "tls-port 6379"} <= set(config)
    pod = chart.pod("Deployment", "gateway")
    gateway = container(pod, "gateway")
    assert value(gateway, "TAMVT_REDIS_URL").startswith("rediss://")
    authority = value(gateway, "SSL_CERT_FILE")
    assert volume(pod, mounts(gateway)[str(Path(authority).parent)])["secret"]["secretName"] == (
        "authority"
    )
    redis = container(chart.pod("StatefulSet", "redis"), "redis")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert "--tls" in redis[probe]["exec"]["command"][-1]


@pytest.mark.parametrize("values", ["gpu", "gpu-tensorrt"])
def test_a_redis_of_your_own_is_named_by_a_secret(rendered: Render, values: str) -> None:
    chart = rendered(values)
    assert chart.of("StatefulSet") == []
    variable = environment(container(chart.pod("Deployment", "gateway"), "gateway"))
    reference = variable["TAMVT_REDIS_URL"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "tamvt-redis", "key": "url"}


def test_the_trial_redis_starts_with_its_own_files(rendered: Render, tmp_path: Path) -> None:
    """The container's script and configuration, run with a real Redis in other folders."""
    chart = rendered("cpu")
    (script,) = container(chart.pod("StatefulSet", "redis"), "redis")["args"]
    config = chart.get("ConfigMap", "redis")["data"]["redis.conf"]
    with guarded_redis(tmp_path, script=script, config=config) as server, server.client() as client:
        assert client.config_get("appendfsync")["appendfsync"] == "always"
    assert (tmp_path / "run" / "auth.conf").stat().st_mode & 0o077 == 0


# Routes and monitors.


def forwarding(chart: Manifests) -> list[Resource]:
    """The rules of the route that lead to gateways: those for streams, and for all else."""
    rules = [r for r in chart.get("HTTPRoute", "")["spec"]["rules"] if r["name"] != "metrics"]
    assert [rule["name"] for rule in rules] == ["stream", "rest"]
    return rules


def test_metrics_are_not_seen_through_the_route(rendered: Render) -> None:
    rules = rendered("gpu").get("HTTPRoute", "")["spec"]["rules"]
    (metrics,) = (rule for rule in rules if rule["name"] == "metrics")
    # An exact path goes before every prefix, and without a backend there is no answer of ours.
    assert metrics["matches"] == [{"path": {"type": "Exact", "value": "/metrics"}}]
    assert "backendRefs" not in metrics
    assert "filters" not in metrics


def test_a_stream_lasts_and_a_request_outlives_its_deadline(rendered: Render) -> None:
    rules = {r["name"]: r for r in rendered("gpu").get("HTTPRoute", "")["spec"]["rules"]}
    assert rules["stream"]["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    (match,) = rules["stream"]["matches"]
    assert re.fullmatch(match["path"]["value"], "/v1/sessions/0123abc/stream")
    assert not re.fullmatch(match["path"]["value"], "/v1/sessions/0123abc/clips")
    deadline_s = float(rules["rest"]["timeouts"]["backendRequest"].rstrip("s"))
    assert deadline_s > 300  # TAMVT_REQUEST_DEADLINE_S
    assert float(rules["rest"]["timeouts"]["request"].rstrip("s")) > deadline_s


def test_a_tenants_name_never_comes_from_outside(rendered: Render) -> None:
    for rule in forwarding(rendered("gpu")):
        (header,) = rule["filters"]
        assert header["requestHeaderModifier"]["remove"] == ["X-Tenant"]


def test_affinity_is_an_optimization_only(rendered: Render) -> None:
    with_it = forwarding(rendered("gpu-tensorrt"))
    assert all(rule["sessionPersistence"]["type"] == "Cookie" for rule in with_it)
    without = forwarding(rendered("gpu"))
    assert not any("sessionPersistence" in rule for rule in without)


@pytest.mark.parametrize("values", ["gpu", "gpu-tensorrt"])
def test_every_monitor_finds_a_port_of_a_service(rendered: Render, values: str) -> None:
    chart = rendered(values)
    monitors = chart.of("ServiceMonitor")
    assert {m["metadata"]["name"] for m in monitors} == {"tamvt-gateway", "tamvt-triton"}
    for monitor in monitors:
        wanted = monitor["spec"]["selector"]["matchLabels"]
        (endpoint,) = monitor["spec"]["endpoints"]
        services = [
            s for s in chart.of("Service") if wanted.items() <= s["metadata"]["labels"].items()
        ]
        ports = [port["name"] for service in services for port in service["spec"]["ports"]]
        assert ports.count(endpoint["port"]) == 1
        assert endpoint["path"] == "/metrics"


@pytest.mark.parametrize("values", ["gpu", "gpu-tensorrt"])
def test_the_alerts_come_with_the_monitors(rendered: Render, values: str) -> None:
    (rule,) = rendered(values).of("PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    assert (CHART / "files" / "rules.yml").read_text() == RULES.read_text()
    assert rendered("cpu").of("PrometheusRule") == []
    chosen = rendered(values, "monitoring.labels.release=prometheus")
    found = [*chosen.of("PrometheusRule"), *chosen.of("ServiceMonitor")]
    assert {each["metadata"]["labels"]["release"] for each in found} == {"prometheus"}


def test_prometheus_shows_a_key_to_the_gateways_alone(rendered: Render) -> None:
    monitors = rendered("gpu", "monitoring.keySecret=metrics-key").of("ServiceMonitor")
    shown = {
        m["metadata"]["name"]: m["spec"]["endpoints"][0].get("authorization") for m in monitors
    }
    assert shown == {
        "tamvt-gateway": {"credentials": {"name": "metrics-key", "key": "key"}},
        "tamvt-triton": None,
    }


@pytest.mark.parametrize("values", VALUES)
def test_every_service_leads_to_a_port_of_its_pods(rendered: Render, values: str) -> None:
    chart = rendered(values)
    for service in chart.of("Service"):
        pods = [p for r, p in chart.pods() if selects(service["spec"]["selector"], r)]
        assert len(pods) == 1, service["metadata"]["name"]
        named = {
            port["name"]
            for one in (*pods[0].get("initContainers", ()), *pods[0]["containers"])
            for port in one.get("ports", ())
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


# The overlay, and what checks all this.


def test_an_overlay_changes_what_was_rendered() -> None:
    made = Manifests(check.read_resources(check.check_overlay(check.render("cpu"))))
    gateway = made.get("Deployment", "gateway")
    assert gateway["metadata"]["labels"]["team"] == "vision"
    template = gateway["spec"]["template"]
    assert template["metadata"]["annotations"] == {"example.org/owner": "vision"}
    assert template["spec"]["containers"][0]["image"].startswith("registry.example.org/")


def test_every_exception_of_checkov_is_explained() -> None:
    lines = (ROOT / "deploy" / "tools" / "checkov.yaml").read_text().splitlines()
    skipped = [k for k, line in enumerate(lines) if line.strip().startswith("- CKV")]
    assert skipped
    assert all(lines[k - 1].strip().startswith("#") for k in skipped)


def test_the_overlay_and_the_tools_are_as_they_are_written() -> None:
    package = json.loads((ROOT / "deploy" / "tools" / "package.json").read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", v) for v in package["dependencies"].values())
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"]
