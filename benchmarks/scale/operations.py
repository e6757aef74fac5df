"""What a job asks of Firestore, Pub/Sub and Cloud Storage, counted by reading the code that asks.

A read is what Firestore bills as one: a document, also one that is not there, and a count for each
thousand of what it counts, one at least.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import ceil

from scale import known

_TICK_SECONDS = 0.4  # services/gpu_worker/attempt.py; a test holds these three to it
_REPORT_SECONDS = 1.0
_HEARTBEAT_SECONDS = 5.0  # config/promptreel.yaml worker.heartbeat_seconds
_COUNTED_BY = 1000


@dataclass(frozen=True, kw_only=True)
class Operations:
    reads: float = 0.0
    writes: float = 0.0
    job_writes: float = 0.0  # of the writes, those to documents of the collection `jobs`
    deletes: float = 0.0
    messages: float = 0.0  # published or delivered
    class_a: float = 0.0
    class_b: float = 0.0
    requests: float = 0.0  # to the API
    request_seconds: float = 0.0  # for which the API has them in work

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(
            **{
                each.name: getattr(self, each.name) + getattr(other, each.name)
                for each in fields(self)
            }
        )

    def times(self, number: float) -> "Operations":
        return Operations(**{each.name: getattr(self, each.name) * number for each in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Render:
    """The stages that matter here, in seconds, and the steps that the first of them reports."""

    denoise_seconds: float
    decode_seconds: float
    steps: int

    @property
    def seconds(self) -> float:
        return self.denoise_seconds + self.decode_seconds


def submit(*, queued: float) -> Operations:
    """`POST /v1/jobs` with an Idempotency-Key.

    The owner's webhook, two limits, the job and its key, a message, and that it was sent
    (lifecycle.submit, job_admission.py, dispatch.py).
    """
    calls = 1 + 2 + 1 + 1 + 2
    return Operations(
        reads=1 + 2 * _counted(queued) + 1,
        writes=3,
        job_writes=2,
        messages=1,
        requests=1,
        request_seconds=calls * known.CALL_SECONDS.value,
    )


def delivery() -> Operations:
    """A push that reaches a worker, which looks whether there is anything to do (push_service.py)."""
    return Operations(reads=1, messages=1)


def claim() -> Operations:
    return Operations(reads=1, writes=1, job_writes=1)


def render(of: Render) -> Operations:
    """A look a tick, progress once a second at most, a heartbeat where there is none (attempt._sync)."""
    # What comes a little after a second waits for the next tick.
    report_seconds = ceil(_REPORT_SECONDS / _TICK_SECONDS) * _TICK_SECONDS
    decoded = min(of.decode_seconds / report_seconds, known.DECODED_STEPS.value)
    denoised = min(of.denoise_seconds / report_seconds, of.steps)
    writes = denoised + decoded + of.denoise_seconds / _HEARTBEAT_SECONDS
    return Operations(reads=of.seconds / _TICK_SECONDS, writes=writes, job_writes=writes)


def log() -> Operations:
    """Each time the job, the newest document, a new one (firestore_jobs.append_log, job_log.py)."""
    times = known.LOG_WRITES.value
    return Operations(reads=2 * times, writes=times)


def finish() -> Operations:
    """Whether it is still ours, three files, then the job and, for its new expiry, its key."""
    return Operations(reads=2, writes=3, job_writes=2, class_a=known.FILES.value)


def poll_queued(*, queued: float, ended: float) -> Operations:
    """`GET /v1/jobs/{id}` of a job that waits: its place, and the pace (details.py)."""
    return Operations(
        reads=1 + _counted(ended) + _counted(queued),
        requests=1,
        request_seconds=3 * known.CALL_SECONDS.value,
    )


def poll_rendering() -> Operations:
    return Operations(reads=1, requests=1, request_seconds=known.CALL_SECONDS.value)


def fetch() -> Operations:
    """A signed link, and the video by it."""
    return Operations(reads=1, requests=1, class_b=1, request_seconds=2 * known.CALL_SECONDS.value)


def retention() -> Operations:
    """Two visits of the sweep, days later: its files go, then the job, its log and its key (sweep.py)."""
    logged = known.LOG_WRITES.value
    return Operations(
        reads=2 + 2 + (logged + 1) + 2,
        writes=2,
        job_writes=2,
        deletes=2 + logged,
        class_a=2,
    )


# Of a visit of the sweep, how many calls are made one after the other: the longer of the two.
CALLS_OF_A_VISIT = 8


def sweep() -> Operations:
    """One that finds nothing in two queries, and waits for dead letters (pubsub_queue.dead_letters)."""
    seconds = known.DEAD_LETTER_LOOK.value + 2 * known.CALL_SECONDS.value
    return Operations(reads=2, requests=1, request_seconds=seconds)


def presence(instance_seconds: float) -> Operations:
    """Each worker says that it is alive (presence.py)."""
    return Operations(writes=instance_seconds / _HEARTBEAT_SECONDS)


def steps_of(of: Render) -> Mapping[str, Operations]:
    """Of one job that is rendered at once, for the page."""
    polls = of.seconds / known.POLL_EVERY.value
    return {
        "submit": submit(queued=0),
        "deliver": delivery(),
        "claim": claim(),
        "render": render(of),
        "log": log(),
        "upload and complete": finish(),
        "polls": poll_rendering().times(polls),
        "link and download": fetch(),
        "retention": retention(),
    }


def _counted(number: float) -> float:
    return max(1.0, ceil(number / _COUNTED_BY))
