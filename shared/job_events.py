"""What is told of a job as it goes through its life: one log line a change, the counters, its webhook."""

from dataclasses import dataclass
from typing import Any

import structlog

from shared.errors import TransientError
from shared.estimates import cost_usd
from shared.job import Job
from shared.messages import TOPIC_WEBHOOKS, Message
from shared.ports import MessageQueue
from shared.telemetry import Metrics, hash_prompt, trace_id

log = structlog.get_logger("promptreel.job")


@dataclass(frozen=True, kw_only=True)
class JobEvents:
    """Where a job's changes are logged and counted, without its prompt."""

    metrics: Metrics
    prompt_hash_key: bytes
    queue: MessageQueue  # that wakes the courier of webhooks

    def ended(self, job: Job) -> Job:
        """To be told once, by whoever has stored the end."""
        self.metrics.jobs_ended.labels(job.request.model, job.status).inc()
        cost = cost_usd(job)
        if cost is not None:
            self.metrics.cost_usd.labels(job.request.model).inc(cost)
        self.tell("job ended", job, cost_usd=cost, total_seconds=_seconds_of_all(job))
        if job.webhook is not None:
            self._wake_courier(job)
        return job

    def _wake_courier(self, job: Job) -> None:
        message = Message(job_id=job.id, traceparent=job.traceparent)
        try:
            self.queue.publish(TOPIC_WEBHOOKS, message)
        except TransientError as error:
            # The job knows that it is to be told of; the sweep sends a message.
            log.warning("webhook not published yet", job_id=job.id, code=error.code)

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


def _seconds_of_all(job: Job) -> float | None:
    """From acceptance to the end, whatever came between."""
    if job.finished_at is None:
        return None
    return round((job.finished_at - job.created_at).total_seconds(), 3)
