"""What the service counts, in Prometheus' text format. Each service has a registry of its own.

`python -m service.telemetry.metrics` prints the table of docs/operations.md.
"""

from __future__ import annotations

import sys
from collections import Counter as Counts
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)

from service.telemetry.collectors import ProcessState
from service.telemetry.stage_times import StageTimes
from service.telemetry.tenants import TenantActivity

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

QUOTA_PROBLEMS: Final = frozenset(
    ("too-many", "rate-limited", "session-too-large", "masks-too-large")
)


class TrackedObject(Protocol):
    """One object in one frame."""

    @property
    def state(self) -> str: ...


class Tracked(Protocol):
    """One frame's masks."""

    @property
    def dropped(self) -> bool: ...

    @property
    def objects(self) -> Sequence[TrackedObject]: ...


class OfTenant(Protocol):
    """A session, and whose it is."""

    @property
    def session_id(self) -> str: ...

    @property
    def tenant(self) -> str: ...


class Metrics:
    """The counters of one service. docs/operations.md has a table of them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tell: Callable[[], Awaitable[bytes]] = self.text_alone
        self.tenants = TenantActivity()
        self.state = ProcessState(self.tenants)
        self.registry.register(self.state)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._count_requests()
        self._count_tracking()
        self._count_quality()
        self._count_streams()

    def _count_requests(self) -> None:
        self.requests = Counter(
            "tamvt_requests",
            "Requests answered, by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "tamvt_request_seconds",
            "Time to answer a request, by route.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "tamvt_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.tasks = Gauge("tamvt_tasks", "Tasks of the event loop.", registry=self.registry)
        self.problems = Counter(
            "tamvt_problems",
            "Errors answered, over REST and on streams, by problem.",
            ("problem",),
            registry=self.registry,
        )
        self.quota_refusals = Counter(
            "tamvt_quota_refusals",
            "Requests and streams that were beyond a quota, by problem.",
            ("problem",),
            registry=self.registry,
        )
        self.received_bytes = Counter(
            "tamvt_received_bytes", "Bytes of requests' bodies.", registry=self.registry
        )
        self.sent_bytes = Counter(
            "tamvt_sent_bytes", "Bytes of answers' bodies.", registry=self.registry
        )

    def _count_tracking(self) -> None:
        self.sessions = Counter("tamvt_sessions", "Sessions started.", registry=self.registry)
        self.frames = Counter("tamvt_frames", "Frames committed.", registry=self.registry)
        self.replayed = Counter(
            "tamvt_frames_replayed",
            "Frames answered from the store on a retry.",
            registry=self.registry,
        )
        self.dropped = Counter(
            "tamvt_frames_dropped",
            "Frames passed over by streams that show the latest.",
            registry=self.registry,
        )
        self.clips = Counter("tamvt_clips", "Clips committed.", registry=self.registry)
        self.batch_size = Histogram(
            "tamvt_batch_size",
            "Clips that the model ran together, for each clip.",
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )
        self.stage_seconds = Counter(
            "tamvt_stage_seconds",
            "Time that committed clips spent in a stage, over REST and on streams; divide by "
            "tamvt_clips_total. A stream's clip counts as its newest frame waited.",
            ("stage",),
            registry=self.registry,
        )
        self.clip_stage_seconds = Histogram(
            "tamvt_clip_stage_seconds",
            "Time that a committed clip spent in a stage; of an append its clips' mean.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )

    def _count_quality(self) -> None:
        self.canary_j = Gauge(
            "tamvt_canary_j",
            "J of the canary clip's worst mask in its last run, by model.",
            ("model",),
            registry=self.registry,
        )
        self.canary_failures = Counter(
            "tamvt_canary_failures",
            "Runs of the canary clip with wrong masks, by model.",
            ("model",),
            registry=self.registry,
        )
        self.object_frames = Counter(
            "tamvt_object_frames",
            "Objects in committed frames, by their state: visible, lost, human.",
            ("state",),
            registry=self.registry,
        )
        self.tenant_frames = Counter(
            "tamvt_tenant_frames",
            "Frames committed, by tenant; those beyond the first hundred are `other`.",
            ("tenant",),
            registry=self.registry,
        )
        self.tenant_engine_seconds = Counter(
            "tamvt_tenant_engine_seconds",
            "Time that committed clips waited for the engine and ran in it, by tenant.",
            ("tenant",),
            registry=self.registry,
        )

    def _count_streams(self) -> None:
        self.streams = Gauge("tamvt_streams_open", "Streams that are open.", registry=self.registry)
        self.streams_closed = Counter(
            "tamvt_streams_closed",
            "Streams ended, by close code.",
            ("code",),
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Return everything counted so far, in Prometheus' text format."""
        return generate_latest(self.registry)

    async def text_alone(self) -> bytes:
        """Return `text`, which is what `/metrics` answers unless workers share theirs."""
        return self.text()

    def told(self) -> Mapping[str, Metric]:
        """Return every metric of our own by the name that a query asks for."""
        families = (one for one in self.registry.collect() if one.name.startswith("tamvt_"))
        return {f"{m.name}_total" if m.type == "counter" else m.name: m for m in families}

    def count_request(
        self, method: str, route: str, status: int, *, received: int, sent: int, seconds: float
    ) -> None:
        """Count a request that was answered, and the bytes of the bodies."""
        self.requests.labels(method, route, status).inc()
        self.request_seconds.labels(route).observe(seconds)
        self.received_bytes.inc(received)
        self.sent_bytes.inc(sent)

    def count_frames(
        self,
        frames: Sequence[Tracked],
        session: OfTenant,
        *,
        replayed: int,
        clips: int,
        times: StageTimes,
    ) -> None:
        """Count what an append, or a clip of a stream, came to; `times` only if it committed.

        The first `replayed` of its `frames` were committed before.
        """
        fresh = frames[replayed:]
        dropped = sum(masks.dropped for masks in fresh)
        self.frames.inc(len(fresh) - dropped)
        self.replayed.inc(replayed)
        self.dropped.inc(dropped)
        self.clips.inc(clips)
        for state, count in Counts(o.state for masks in fresh for o in masks.objects).items():
            self.object_frames.labels(state).inc(count)
        for size in times.batch_sizes:
            self.batch_size.observe(size)
        if clips:
            tenant = self.tenants.label(session.tenant)
            self.tenants.see(session.session_id, session.tenant)
            self.tenant_frames.labels(tenant).inc(len(fresh) - dropped)
            for stage, seconds in times.seconds.items():
                self.stage_seconds.labels(stage).inc(seconds)
                histogram = self.clip_stage_seconds.labels(stage)
                for _ in range(clips):
                    histogram.observe(seconds / clips)
                if stage == "inference":
                    self.tenant_engine_seconds.labels(tenant).inc(seconds)

    def count_canary(self, model: str, *, j: float, failed: bool) -> None:
        """Count a run of a model's canary clip."""
        self.canary_j.labels(model).set(j)
        self.canary_failures.labels(model).inc(failed)

    def expect_problems(self, slugs: Iterable[str]) -> None:
        """Tell these problems from now on, as none: a first one is then an increase."""
        for slug in slugs:
            self.problems.labels(slug)

    def count_problem(self, slug: str) -> None:
        """Count one more answer of this problem."""
        self.problems.labels(slug).inc()
        if slug in QUOTA_PROBLEMS:
            self.quota_refusals.labels(slug).inc()


def write_markdown_table() -> str:
    """Return the table of docs/operations.md, a row for each metric."""
    rows = (
        f"| `{name}` | {metric.type} | {metric.documentation} |"
        for name, metric in sorted(Metrics().told().items())
    )
    return "\n".join(["| metric | type | meaning |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(write_markdown_table())
