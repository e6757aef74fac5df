"""Which workers are alive, by their own heartbeats."""

from collections.abc import Sequence
from datetime import timedelta

from shared.ports import WorkerBeat
from shared.wiring import Wiring

_SILENT_HEARTBEATS = 3  # a worker that missed so many is not counted any more


def live_workers(wiring: Wiring) -> Sequence[WorkerBeat]:
    """Raises ``StoreUnavailable``."""
    fresh = timedelta(seconds=_SILENT_HEARTBEATS * wiring.config.worker.heartbeat_seconds)
    return wiring.store.workers(seen_since=wiring.lifecycle.now() - fresh)
