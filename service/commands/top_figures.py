"""What `tamvt top` shows, from two looks at the metrics of some gateways: pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, nan
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

STAGES: Final = ("receive", "queue", "store", "decode", "inference", "encode")
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one gateway, or of several added up, at one time."""

    at_s: float
    samples: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        wanted = labels.items()
        found = self.samples.get(name, {})
        return sum(value for given, value in found.items() if wanted <= given)

    def values(self, name: str, label: str) -> Mapping[str, float]:
        """Return a metric's samples, added up by the value of a label."""
        found: defaultdict[str, float] = defaultdict(float)
        for given, value in self.samples.get(name, {}).items():
            found[dict(given).get(label, "")] += value
        return found


def read_scrape(texts: Iterable[str], *, at_s: float) -> Scrape:
    """Add up what gateways answered to `GET /metrics`; raise ValueError for another text."""
    samples: defaultdict[str, defaultdict[Labels, float]] = defaultdict(lambda: defaultdict(float))
    for text in texts:
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                samples[one.name][frozenset(one.labels.items())] += one.value
    return Scrape(at_s, samples)


@dataclass(frozen=True, slots=True)
class TenantFigures:
    """What one tenant has now."""

    tenant: str
    sessions: int
    frames_per_s: float
    engine_share: float  # seconds of the engine a second


@dataclass(frozen=True, slots=True)
class Figures:
    """What is shown of the time between two looks; nan where nothing happened."""

    sessions: int
    streams: int
    requests: int  # in flight
    frames_per_s: float
    waiting: int
    running: int
    rebuilds_per_s: float
    found_share: float  # of the uses of a bank
    redis_p99_s: float
    problems_per_s: float
    refusals_per_s: float
    lost_share: float  # of the objects in frames
    stages: Mapping[str, tuple[float, float]]  # mean and 95th percentile, in seconds
    tenants: Sequence[TenantFigures]  # the most frames a second first


def compute_figures(before: Scrape, now: Scrape) -> Figures:
    """Return what happened between two looks, and what is now."""
    spent_s = max(now.at_s - before.at_s, 1e-9)

    def count(name: str, **labels: str) -> float:
        # A gateway that was started anew counts from 0 again.
        return max(0.0, now.total(name, **labels) - before.total(name, **labels))

    hits, rebuilds = (
        count("tamvt_bank_hits_total"),
        count("tamvt_bank_rebuilds_total"),
    )
    clip = "tamvt_clip_stage_seconds"
    stages = {
        stage: (
            divide(
                count(f"{clip}_sum", stage=stage),
                count(f"{clip}_count", stage=stage),
            ),
            estimate_quantile(0.95, count_by_bucket(before, now, clip, stage=stage)),
        )
        for stage in STAGES
    }
    sessions = now.values("tamvt_sessions_active", "tenant")
    tenants = [
        TenantFigures(
            tenant,
            int(sessions.get(tenant, 0)),
            count("tamvt_tenant_frames_total", tenant=tenant) / spent_s,
            count("tamvt_tenant_engine_seconds_total", tenant=tenant) / spent_s,
        )
        for tenant in {*sessions, *now.values("tamvt_tenant_frames_total", "tenant")}
    ]
    objects = count("tamvt_object_frames_total")
    return Figures(
        sessions=int(now.total("tamvt_sessions_active")),
        streams=int(now.total("tamvt_streams_open")),
        requests=int(now.total("tamvt_requests_in_flight")),
        frames_per_s=count("tamvt_frames_total") / spent_s,
        waiting=int(now.total("tamvt_engine_queue")),
        running=int(now.total("tamvt_engine_running")),
        rebuilds_per_s=rebuilds / spent_s,
        found_share=divide(hits, hits + rebuilds),
        redis_p99_s=estimate_quantile(0.99, count_by_bucket(before, now, "tamvt_redis_seconds")),
        problems_per_s=count("tamvt_problems_total") / spent_s,
        refusals_per_s=count("tamvt_quota_refusals_total") / spent_s,
        lost_share=divide(count("tamvt_object_frames_total", state="lost"), objects),
        stages=stages,
        tenants=sorted(tenants, key=lambda one: (-one.frames_per_s, one.tenant)),
    )


def divide(part: float, whole: float) -> float:
    """Return part / whole; nan where there is no whole."""
    return part / whole if whole else nan


def count_by_bucket(
    before: Scrape, now: Scrape, name: str, **labels: str
) -> list[tuple[float, float]]:
    """Return the upper limits of a histogram's buckets, and what came to at most each since."""
    names = now.values(f"{name}_bucket", "le")
    found = [
        (
            inf if limit == "+Inf" else float(limit),
            # A gateway that was started anew counts from 0 again.
            max(
                0.0,
                now.total(f"{name}_bucket", le=limit, **labels)
                - before.total(f"{name}_bucket", le=limit, **labels),
            ),
        )
        for limit in names
    ]
    return sorted(found)


def estimate_quantile(q: float, upper: Sequence[tuple[float, float]]) -> float:
    """Return a quantile of a histogram, as Prometheus does: on a line through its bucket."""
    count = upper[-1][1] if upper else 0.0
    if count <= 0:
        return nan
    for (below, fewer), (limit, more) in pairwise([(0.0, 0.0), *upper]):
        if more >= q * count:
            if limit == inf:
                return below
            return below + (limit - below) * (q * count - fewer) / max(more - fewer, 1e-9)
    return nan
