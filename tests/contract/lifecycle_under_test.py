"""The real ``Lifecycle`` as each process has it: one store, the weakest queue, clocks that disagree."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from structlog.testing import capture_logs

from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.signing_keys import SigningSecrets
from shared.config import Config
from shared.job import Job, JobStatus
from shared.lifecycle import Lifecycle
from shared.ports import JobStore
from shared.telemetry import Metrics
from tests.contract.lifecycle_oracle import ARTIFACTS_KEPT, JOB_KEPT, LEASE, MAX_ATTEMPTS
from tests.contract.weakest_queue import WeakestQueue

CLOCK_ERROR_SECONDS = {"w1": 0, "w2": 20, "w3": -20}
CONFIG = Config.model_validate(
    {
        "worker": {"lease_seconds": LEASE.total_seconds(), "max_attempts": MAX_ATTEMPTS},
        "retention": {"artifact_days": ARTIFACTS_KEPT.days, "job_days": JOB_KEPT.days},
    }
)
_END_OF_TIME = datetime(2100, 1, 1, tzinfo=UTC)


class LifecycleUnderTest:
    def __init__(self, open_store: Callable[[], AbstractContextManager[JobStore]]) -> None:
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)
        self.next_job_id = ""
        # What the workers got that had a job before its publisher knew that it was published.
        self.tokens_taken_at_once: dict[str, str] = {}
        self._open = ExitStack()
        self._open.enter_context(
            capture_logs()
        )  # nobody reads them, and written out they cost most
        self._store = self._open.enter_context(open_store())
        self.queue = WeakestQueue(taken_at_once=self._take_at_once)
        files = Path(self._open.enter_context(TemporaryDirectory()))
        self.api = Lifecycle(
            config=CONFIG,
            store=self._store,
            queue=self.queue,
            artifacts=DiskArtifacts(
                files, bucket="bucket", signing=lambda: SigningSecrets(b"k" * 32)
            ),
            metrics=Metrics(),
            prompt_hash_key=b"key",
            now=lambda: self.now,
            new_id=lambda: self.next_job_id,
            new_seed=lambda: 7,
        )
        self.workers = {
            name: replace(self.api, now=self._clock(error_seconds))
            for name, error_seconds in CLOCK_ERROR_SECONDS.items()
        }

    def stored(self) -> dict[str, Job]:
        """Every job there is, found as the sweep finds it: it has a moment to be looked at."""
        return {job.id: job for job in self._store.due(_END_OF_TIME, limit=100, statuses=JobStatus)}

    def close(self) -> None:
        self._open.close()

    def _clock(self, error_seconds: float) -> Callable[[], datetime]:
        return lambda: self.now + timedelta(seconds=error_seconds)

    def _take_at_once(self, job_id: str) -> None:
        """A worker claims the job while it is being published, and is never heard of again."""
        lease = self.workers["w1"].claim(job_id, worker="w1").lease
        if lease is None:
            raise AssertionError(f"{job_id} was published and could not be claimed")
        self.tokens_taken_at_once[job_id] = lease.token
