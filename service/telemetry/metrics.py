"""What the service counts, in Prometheus' text format. Each service has a registry of its own."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.telemetry.stage_times import StageTimes

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tamvt_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "tamvt_request_seconds",
            "Time to answer a request.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "tamvt_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.tasks = Gauge("tamvt_tasks", "Tasks of the event loop.", registry=self.registry)
        self.problems = Counter(
            "tamvt_problems", "Errors answered, by problem.", ("problem",), registry=self.registry
        )
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
        self.streams = Gauge("tamvt_streams_open", "Streams that are open.", registry=self.registry)
        self.streams_closed = Counter(
            "tamvt_streams_closed",
            "Streams ended, by close code.",
            ("code",),
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

    def text(self) -> bytes:
        """Return everything counted so far, in Prometheus' text format."""
        return generate_latest(self.registry)

    def count_frames(
        self, *, committed: int, replayed: int, clips: int, times: StageTimes, dropped: int = 0
    ) -> None:
        """Count what an append, or a clip of a stream, came to; `times` only if it committed."""
        self.frames.inc(committed)
        self.replayed.inc(replayed)
        self.dropped.inc(dropped)
        self.clips.inc(clips)
        for size in times.batch_sizes:
            self.batch_size.observe(size)
        if clips:
            for stage, seconds in times.seconds.items():
                self.stage_seconds.labels(stage).inc(seconds)

    def count_problem(self, slug: str) -> None:
        """Count one more answer of this problem."""
        self.problems.labels(slug).inc()
