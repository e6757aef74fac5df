"""The counters and clocks of one process, as Prometheus reads them."""

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300)


class Metrics:
    """The Prometheus metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.http_requests = Counter(
            "promptreel_http_requests",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.http_seconds = Histogram(
            "promptreel_http_request_seconds",
            "Time to answer an HTTP request.",
            ["method", "route"],
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self.jobs_submitted = Counter(
            "promptreel_jobs_submitted", "Jobs accepted.", ["model"], registry=self.registry
        )
        self.jobs_refused = Counter(
            "promptreel_jobs_refused",
            "Jobs refused because a limit was reached.",
            ["model", "code"],
            registry=self.registry,
        )
        self.jobs_ended = Counter(
            "promptreel_jobs_ended",
            "Jobs ended, by their last status.",
            ["model", "status"],
            registry=self.registry,
        )
        self.retries = Counter(
            "promptreel_job_retries",
            "Attempts that failed and are tried again.",
            ["model", "code"],
            registry=self.registry,
        )
        self.cost_usd = Counter(
            "promptreel_cost_usd",
            "Dollars that finished renders took, where the device's price is known.",
            ["model"],
            registry=self.registry,
        )
        self.leases_lost = Counter(
            "promptreel_leases_lost",
            "Renders dropped: the job is another's.",
            registry=self.registry,
        )
        self.queue_seconds = self._seconds("queue", "From acceptance to the first claim.")
        self.generation_seconds = self._seconds("generation", "From the claim to the encoded file.")
        self.cold_start_seconds = self._seconds(
            "cold_start", "From the worker's first moment until it could render."
        )
        self.upload_seconds = self._seconds("upload", "Storing the artifacts.")
        self.phase_seconds = Histogram(
            "promptreel_phase_seconds",
            "Time a phase of a finished render took.",
            ["phase"],
            buckets=_SECONDS,
            registry=self.registry,
        )

    def add(self, collector: Any) -> None:  # noqa: ANN401 - prometheus_client's own type is private
        """Add figures that are read when they are asked for."""
        self.registry.register(collector)

    def observe_phases(self, seconds: Iterable[tuple[str, float]]) -> None:
        for phase, value in seconds:
            self.phase_seconds.labels(phase).observe(value)

    def _seconds(self, name: str, text: str) -> Histogram:
        return Histogram(
            f"promptreel_{name}_seconds", text, buckets=_SECONDS, registry=self.registry
        )
