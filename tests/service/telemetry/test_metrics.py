"""The metrics tell of what was done, under bounded names."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.metrics import write_markdown_table
from service.telemetry.tenants import ACTIVE_S, MOST_TENANTS, OTHERS, TenantActivity
from tests.service.stream.talk import talk
from tests.support import scene
from tests.support.running import ROOT, Api, Running

Samples = Mapping[str, float]


def samples(text: str) -> Samples:
    """Return every sample by its name and labels."""
    return {
        f"{one.name}{sorted(one.labels.values()) or ''}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if not one.name.endswith("_bucket")
    }


def scrape(api: Api) -> Samples:
    return samples(api.http.get("/metrics").text)


def moved(before: Samples, after: Samples, name: str) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)


def test_an_append_moves_the_metrics_of_all_it_went_through(api: Api) -> None:
    session, before = api.start(objects=2), scrape(api)
    api.append(session, [scene.jpeg(number, objects=2) for number in range(1, 5)], first=1)
    api.append(session, [scene.jpeg(5, objects=2)], first=5)
    after = scrape(api)
    expected = {
        "tamvt_object_frames_total['visible']": 10,
        "tamvt_tenant_frames_total['default']": 5,
        "tamvt_clip_stage_seconds_count['inference']": 3,
        "tamvt_bank_rebuilds_total['toy']": 1,
        "tamvt_bank_hits_total['toy']": 1,
        "tamvt_redis_seconds_count['commit']": 2,
        "tamvt_redis_errors_total['load']": 0,  # a script that Redis does not know yet is none
    }
    assert {name: moved(before, after, name) for name in expected} == expected
    assert after["tamvt_sessions_active['default']"] >= 1
    assert after["tamvt_bank_bytes['toy']"] > 0
    assert after["tamvt_engine_queue['toy']"] == after["tamvt_engine_running['toy']"] == 0
    assert after["process_resident_memory_bytes"] > 1e6
    assert moved(before, after, "tamvt_received_bytes_total") > 5000


def test_every_metric_is_in_the_documents() -> None:
    assert write_markdown_table() in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_tenants_beyond_the_first_hundred_share_a_name() -> None:
    activity = TenantActivity()
    names = {activity.label(f"tenant-{number}") for number in range(3 * MOST_TENANTS)}
    assert len(names) == MOST_TENANTS + 1
    assert activity.label("tenant-5") == "tenant-5"
    assert activity.label("tenant-299") == OTHERS


def test_a_session_is_active_for_a_minute() -> None:
    now = [0.0]
    activity = TenantActivity(clock=lambda: now[0])
    activity.see("a", "acme")
    activity.see("b", "acme")
    now[0] = ACTIVE_S - 1
    activity.see("a", "acme")
    assert activity.active_sessions() == {"acme": 2}
    now[0] = ACTIVE_S + 1
    assert activity.active_sessions() == {"acme": 1}


def test_a_stream_that_is_refused_counts_as_its_problem(running: Running, api: Api) -> None:
    before = scrape(api)
    with talk(running.url, "no-such-session", ready=False) as stream:
        assert stream.hear_close() == 4404
    name = "tamvt_problems_total['unknown-session']"
    assert moved(before, scrape(api), name) == 1
