"""Figures read when they are asked for: what the store and the queue hold right now."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

from services.api.workers import live_workers
from shared.catalog import TOPIC_GPU, TOPIC_REMOTE
from shared.errors import TransientError
from shared.ports import WorkerBeat
from shared.wiring import Wiring

_TOPICS = (TOPIC_GPU, TOPIC_REMOTE)
_STATES = ("loading", "idle", "busy")


class StateGauges:
    """A Prometheus collector. A port that does not answer is left out, and said to be down."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def collect(self) -> Iterator[GaugeMetricFamily]:
        up = GaugeMetricFamily("promptreel_up", "1 if the port answers.", labels=["port"])
        for port, read in (("store", self._read_store), ("queue", self._read_queue)):
            try:
                families = list(read())
            except TransientError:
                up.add_metric([port], 0)
            else:
                up.add_metric([port], 1)
                yield from families
        yield up

    def _read_store(self) -> Iterator[GaugeMetricFamily]:
        jobs = GaugeMetricFamily("promptreel_jobs", "Jobs by status.", labels=["status"])
        for status, count in self._wiring.store.counts().items():
            jobs.add_metric([status.value], count)
        yield jobs
        beats = live_workers(self._wiring)
        workers = GaugeMetricFamily(
            "promptreel_workers", "Workers with a fresh heartbeat.", labels=["model_loaded"]
        )
        for loaded in (True, False):
            count = sum(beat.model_loaded is loaded for beat in beats)
            workers.add_metric([str(loaded).lower()], count)
        yield workers
        states = GaugeMetricFamily(
            "promptreel_workers_in_state", "The same, by what they do.", labels=["state"]
        )
        doing = Counter(_state(beat) for beat in beats)
        for state in _STATES:
            states.add_metric([state], doing[state])
        yield states

    def _read_queue(self) -> Iterator[GaugeMetricFamily]:
        depth = GaugeMetricFamily(
            "promptreel_queue_depth", "Messages waiting or in work.", labels=["topic"]
        )
        for topic in _TOPICS:
            messages = self._wiring.queue.depth(topic)
            if messages is not None:
                depth.add_metric([topic], messages)
        yield depth


def _state(beat: WorkerBeat) -> str:
    if not beat.model_loaded:
        return "loading"
    return "idle" if beat.job_id is None else "busy"
