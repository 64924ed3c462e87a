"""What is read when somebody asks for the metrics: state of engines, calls, decoders, sessions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from service.telemetry.call_times import LIMITS_S, CallTimes, Durations
from service.telemetry.tenants import TenantActivity
from service.telemetry.vitals import EngineVitals

SYSTEMS: Final = ("redis", "triton")  # always told, also before their first call


class WatchedEngine(Protocol):
    """What is asked of an engine."""

    @property
    def calls(self) -> Iterable[CallTimes]: ...

    def vitals(self) -> EngineVitals: ...


class WatchedDecoder(Protocol):
    """What is asked of a decoder of videos."""

    @property
    def children(self) -> int: ...


class ProcessState(Collector):
    """The state of one service's parts. `watch` names them once they are open."""

    def __init__(self, tenants: TenantActivity) -> None:
        self._tenants = tenants
        self._engines: Mapping[str, WatchedEngine] = {}
        self._store_calls: Iterable[CallTimes] = ()
        self._decoder: WatchedDecoder | None = None

    def watch(
        self,
        engines: Mapping[str, WatchedEngine],
        store_calls: CallTimes,
        decoder: WatchedDecoder,
    ) -> None:
        """Tell of these from now on; the engines are by model."""
        self._engines, self._store_calls, self._decoder = engines, (store_calls,), decoder

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        sessions = GaugeMetricFamily(
            "tamvt_sessions_active",
            "Sessions of which this process committed a frame within the last minute, by tenant.",
            labels=["tenant"],
        )
        for tenant, count in self._tenants.active_sessions().items():
            sessions.add_metric([tenant], count)
        children = GaugeMetricFamily(
            "tamvt_decoder_children", "Processes that decode videos, spare ones included."
        )
        children.add_metric([], self._decoder.children if self._decoder else 0)
        yield from (sessions, children)
        yield from engine_metrics({name: one.vitals() for name, one in self._engines.items()})
        calls = [*self._store_calls, *(c for one in self._engines.values() for c in one.calls)]
        for system in SYSTEMS:
            yield from call_metrics(system, [one for one in calls if one.system == system])


def engine_metrics(vitals: Mapping[str, EngineVitals]) -> Iterator[Metric]:
    """Yield what engines do now, by model. What models share, each of them tells as a whole."""
    gauges = {
        "waiting": (
            "tamvt_engine_queue",
            "Clips and rebuilds that wait, by model; models in this process share a queue.",
        ),
        "running": ("tamvt_engine_running", "Clips and rebuilds that the engine runs, by model."),
        "bank_bytes": ("tamvt_bank_bytes", "Bytes of all banks, by model; models share them."),
    }
    counters = {
        "bank_hits": ("tamvt_bank_hits", "Uses of a session whose bank was there, by model."),
        "bank_rebuilds": (
            "tamvt_bank_rebuilds",
            "Banks that were made anew, by model: first uses, after a loss, and the canary's.",
        ),
    }
    for kind, families in ((GaugeMetricFamily, gauges), (CounterMetricFamily, counters)):
        for attribute, (name, text) in families.items():
            family = kind(name, text, labels=["model"])
            for model, values in vitals.items():
                family.add_metric([model], getattr(values, attribute))
            yield family


def call_metrics(system: str, calls: Iterable[CallTimes]) -> Iterator[Metric]:
    """Yield how long the calls to a system took, and how many failed, by operation."""
    title = system.capitalize()
    seconds = HistogramMetricFamily(
        f"tamvt_{system}_seconds", f"Time of calls to {title}, by operation.", labels=["operation"]
    )
    errors = CounterMetricFamily(
        f"tamvt_{system}_errors",
        f"Calls to {title} that failed, by operation.",
        labels=["operation"],
    )
    durations: defaultdict[str, Durations] = defaultdict(Durations)
    failed: Counter[str] = Counter()
    for one in calls:
        failed.update(one.errors)
        for operation, found in one.durations.items():
            durations[operation].add(found)
    for operation, found in durations.items():
        names = [*map(str, LIMITS_S), "+Inf"]
        buckets = list(zip(names, accumulate(found.counts), strict=True))
        seconds.add_metric([operation], buckets, found.sum_s)
        errors.add_metric([operation], failed[operation])
    yield from (seconds, errors)
