"""What scales the chart's pods, on what, and how slowly."""

from __future__ import annotations

import math
import re

import pytest
import yaml

from scripts.deploy.check import CHART, VALUES
from scripts.observability.check import check_queries
from tests.deploy.conftest import Render

REMOTE = ("engine.pairing=remote",)


@pytest.mark.parametrize(
    "settings",
    [*((values,) for values in VALUES), ("gpu", "autoscaling.kind=hpa", *REMOTE)],
    ids=lambda settings: "-".join(settings[:2]),
)
def test_what_scales_has_no_number_of_its_own(rendered: Render, settings: tuple[str, ...]) -> None:
    chart = rendered(*settings)
    scaled = {
        item["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for item in chart.of(kind)
    }
    assert "tamvt-gateway" in scaled
    for deployment in chart.of("Deployment"):
        assert ("replicas" in deployment["spec"]) != (deployment["metadata"]["name"] in scaled)


def test_nothing_scales_unless_it_is_asked_for(rendered: Render) -> None:
    chart = rendered("cpu", "autoscaling.kind=none")
    assert chart.of("HorizontalPodAutoscaler") + chart.of("ScaledObject") == []
    assert chart.get("Deployment", "gateway")["spec"]["replicas"] == 2


def test_one_gpu_is_always_kept(rendered: Render) -> None:
    scaled = rendered("gpu-tensorrt").get("ScaledObject", "triton")["spec"]
    assert scaled["minReplicaCount"] >= 1
    assert scaled["fallback"]["replicas"] >= 1
    assert "idleReplicaCount" not in scaled


def test_triton_scales_on_the_time_that_requests_wait(rendered: Render) -> None:
    (trigger,) = rendered("gpu-tensorrt").get("ScaledObject", "triton")["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert re.search(r"rate\(nv_inference_queue_duration_us\{[^}]*\}\[1m\]\)", query)
    assert query.endswith("/ 1000")  # milliseconds
    assert float(trigger["metadata"]["threshold"]) < 1000
    hpa = rendered("gpu", "autoscaling.kind=hpa", *REMOTE)
    (metric,) = hpa.get("HorizontalPodAutoscaler", "triton")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "nv_inference_queue_ms"


def test_gateways_scale_on_processors_sessions_and_streams(rendered: Render) -> None:
    metrics = rendered("cpu").get("HorizontalPodAutoscaler", "gateway")["spec"]["metrics"]
    resource, *pods = metrics
    assert resource["resource"]["name"] == "cpu"
    counted = {each["pods"]["metric"]["name"]: each["pods"]["target"] for each in pods}
    assert counted.keys() == {"tamvt_sessions_active", "tamvt_streams_open", "clip_queue_ms"}
    assert counted["tamvt_sessions_active"]["averageValue"] == "8"
    triggers = rendered("gpu-tensorrt").get("ScaledObject", "gateway")["spec"]["triggers"]
    assert triggers[0]["type"] == "cpu"
    asked = {each["metadata"]["query"]: each["metadata"]["threshold"] for each in triggers[1:]}
    assert [re.sub(r"\{.*\}", "", query) for query in asked] == [
        "sum(tamvt_sessions_active)",
        "sum(tamvt_streams_open)",
    ]
    assert list(asked.values()) == ["40", "40"]


def test_gateways_scale_on_the_time_that_clips_wait_for_their_own_engine(rendered: Render) -> None:
    triggers = rendered("cpu", "autoscaling.kind=keda").get("ScaledObject", "gateway")["spec"]
    asked = triggers["triggers"][-1]["metadata"]
    inner = r'rate\(tamvt_clip_stage_seconds_(sum|count)\{[^}]*stage="queue"\}\[1m\]\)'
    assert re.findall(inner, asked["query"]) == ["sum", "count"]
    assert asked["query"].endswith("* 1000")  # milliseconds
    assert asked["threshold"] == "40"
    with_triton = rendered("gpu").get("ScaledObject", "gateway")["spec"]["triggers"]
    assert not any("clip_stage" in str(trigger) for trigger in with_triton)


def test_prometheus_can_read_what_is_asked_of_it(rendered: Render) -> None:
    charts = (rendered("cpu", "autoscaling.kind=keda"), rendered("gpu"), rendered("gpu-tensorrt"))
    queries = [
        trigger["metadata"]["query"]
        for chart in charts
        for scaled in chart.of("ScaledObject")
        for trigger in scaled["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]
    assert len(queries) >= 9
    check_queries({f"query {number}": query for number, query in enumerate(queries)})


def test_the_adapter_makes_every_metric_of_the_plain_autoscalers(rendered: Render) -> None:
    file = CHART.parent / "prometheus-adapter.yaml"
    made = {rule["name"]["as"] for rule in yaml.safe_load(file.read_text())["rules"]["custom"]}
    charts = rendered("cpu"), rendered("gpu", "autoscaling.kind=hpa", *REMOTE)
    scalers = [scaler for chart in charts for scaler in chart.of("HorizontalPodAutoscaler")]
    wanted = {
        metric["pods"]["metric"]["name"]
        for scaler in scalers
        for metric in scaler["spec"]["metrics"]
        if "pods" in metric
    }
    assert wanted == made


def test_scaling_down_takes_its_time(rendered: Render) -> None:
    behavior = rendered("cpu").get("HorizontalPodAutoscaler", "gateway")["spec"]["behavior"]
    down = behavior["scaleDown"]["stabilizationWindowSeconds"]
    assert down >= math.ceil(10 * behavior["scaleUp"]["stabilizationWindowSeconds"])
