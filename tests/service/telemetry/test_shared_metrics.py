"""The metrics of several workers are one text that Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.metrics import Metrics
from service.telemetry.shared_metrics import merge_texts


def test_the_texts_of_workers_become_one_with_a_label() -> None:
    one, two = Metrics(), Metrics()
    one.requests.labels("GET", "/v1/{a}", 200).inc(3)
    two.requests.labels("GET", "/v1/{a}", 200).inc(4)
    two.streams.inc()
    merged = merge_texts({"7": one.text().decode(), "8": two.text().decode()})
    families = {family.name: family for family in text_string_to_metric_families(merged)}
    assert set(one.told()) <= {
        f"{n}_total" if f.type == "counter" else n for n, f in families.items()
    }
    found = {
        sample.labels["worker"]: (sample.labels["route"], sample.value)
        for sample in families["tamvt_requests"].samples
        if sample.name == "tamvt_requests_total"
    }
    assert found == {"7": ("/v1/{a}", 3.0), "8": ("/v1/{a}", 4.0)}
    streams = families["tamvt_streams_open"].samples
    assert {sample.labels["worker"]: sample.value for sample in streams} == {"7": 0.0, "8": 1.0}
    assert merged.count("# TYPE tamvt_requests_total counter") == 1
