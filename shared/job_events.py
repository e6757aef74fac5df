"""What is told of a job as it goes through its life: one log line a change, and the counters."""

from dataclasses import dataclass
from typing import Any

import structlog

from shared.job import Job
from shared.telemetry import Metrics, hash_prompt, trace_id

log = structlog.get_logger("promptreel.job")


@dataclass(frozen=True, kw_only=True)
class JobEvents:
    """Where a job's changes are logged and counted, without its prompt."""

    metrics: Metrics
    prompt_hash_key: bytes

    def ended(self, job: Job) -> Job:
        """To be told once, by whoever has stored the end."""
        self.metrics.jobs_ended.labels(job.request.model, job.status).inc()
        self.tell("job ended", job)
        return job

    def tell(self, event: str, job: Job, **fields: Any) -> None:  # noqa: ANN401 - log fields
        log.info(
            event,
            job_id=job.id,
            request_id=job.request_id,
            outcome=job.status.value,
            attempt=job.attempt,
            model=job.request.model,
            prompt_hash=hash_prompt(self.prompt_hash_key, job.request.prompt),
            trace=trace_id(job.traceparent),
            generation_time_seconds=job.summary.generation_seconds if job.summary else None,
            error_code=job.error.code if job.error else None,
            **fields,
        )
