"""What must hold, whatever was done to the processes. Each invariant is a sentence and a function.

In the manner of Jepsen's checkers: they look at nothing but what clients saw and what is there in the
end, and know nothing of which faults there were.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType

from services.torture.crowd import Manner
from services.torture.evidence import Evidence
from services.torture.history import (
    Accepted,
    CancelAnswered,
    CancelAsked,
    CreateAsked,
    Fetched,
    History,
    Seen,
    Unexpected,
)
from shared.job import JobStatus

_KINDS = ["poster", "spritesheet", "video"]

# Why a render of each manner may fail. A healthy one only by its worker's doing, all attempts spent.
_BAD_LUCK = {"worker_lost", "render_crashed", "artifact_store_unavailable"}
_MAY_FAIL_WITH = MappingProxyType(
    dict.fromkeys(Manner, _BAD_LUCK) | {Manner.REFUSED: _BAD_LUCK | {"prompt_refused"}}
)
_NEVER_FINISHES = {Manner.CRASH, Manner.GLUTTON, Manner.REFUSED}
_AT_ONCE = {"prompt_refused"}


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold, and where it shows."""

    invariant: str
    detail: str


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Every violation of every invariant."""
    return [
        Violation(sentence, detail)
        for sentence, find in INVARIANTS
        for detail in find(history, evidence)
    ]


def _unexpected_answers(history: History, _evidence: Evidence) -> Iterator[str]:
    for event in history.of(Unexpected):
        yield f"{event.operation} was answered {event.code}: {event.body}"


def _lost(history: History, evidence: Evidence) -> Iterator[str]:
    for job_id in sorted({event.job_id for event in history.of(Accepted)}):
        if job_id not in evidence.jobs:
            yield f"{job_id} was accepted and is gone"


def _unended(_history: History, evidence: Evidence) -> Iterator[str]:
    for job in evidence.jobs.values():
        if not job.status.is_terminal:
            yield f"{job.id} is still {job.status} after attempt {job.attempt}"


def _one_key_two_jobs(history: History, _evidence: Evidence) -> Iterator[str]:
    jobs_by_key = defaultdict(set)
    for event in history.of(Accepted):
        jobs_by_key[event.key].add(event.job_id)
    for key, job_ids in jobs_by_key.items():
        if len(job_ids) > 1:
            yield f"the key {key} made {sorted(job_ids)}"


def _jobs_nobody_asked_for(history: History, evidence: Evidence) -> Iterator[str]:
    asked_for = {event.key for event in history.of(CreateAsked)}
    for job in evidence.jobs.values():
        if job.idempotency_key not in asked_for:
            yield f"{job.id} is in the store, and no client has asked for it"


def _changed_after_the_end(history: History, evidence: Evidence) -> Iterator[str]:
    ends: dict[str, str] = {}
    for event in history.of(Seen):
        end = ends.get(event.job_id)
        if end is not None and event.status != end:
            yield f"{event.job_id} was {end} and then {event.status}"
        elif event.is_end:
            ends[event.job_id] = event.status
    for job_id, end in ends.items():
        job = evidence.jobs.get(job_id)
        if job is not None and job.status != end:
            yield f"{job_id} was seen {end} and is {job.status} now"


def _ended_twice(_history: History, evidence: Evidence) -> Iterator[str]:
    for job_id, endings in evidence.endings.items():
        if len(endings) > 1:
            yield f"{job_id} was ended {len(endings)} times: {', '.join(endings)}"
        job = evidence.jobs.get(job_id)
        if job is not None and job.status not in endings:
            yield f"{job_id} was said to be {endings[0]} and is {job.status}"


def _breaches(_history: History, evidence: Evidence) -> Iterator[str]:
    yield from evidence.breaches


def _wrong_results(_history: History, evidence: Evidence) -> Iterator[str]:
    for job in evidence.jobs.values():
        kinds = sorted(artifact.kind for artifact in job.artifacts)
        expected = _KINDS if job.status is JobStatus.FINISHED else []
        if kinds != expected:
            yield f"{job.id} is {job.status} with the artifacts {kinds}"
        for artifact in job.artifacts:
            file = evidence.files.get(artifact.key)
            if file is None:
                yield f"{job.id} names {artifact.key}, which is not there"
            elif file.sha256 != artifact.sha256:
                yield f"{job.id} names another content of {artifact.key} than is there"
            elif " of job_" in file.begins_with and f" of {job.id} " not in file.begins_with:
                yield f"{artifact.key} holds what was rendered for another job"


def _files_of_nobody(_history: History, evidence: Evidence) -> Iterator[str]:
    results = {artifact.key for job in evidence.jobs.values() for artifact in job.artifacts}
    for key in sorted(set(evidence.files) - results):
        yield f"{key} is in the store and no job's result"
    for path in evidence.partial_files:
        yield f"{path} was left behind"


def _downloads(history: History, evidence: Evidence) -> Iterator[str]:
    for event in history.of(Fetched):
        job = evidence.jobs.get(event.job_id)
        video = job.artifact("video") if job else None
        if video is None or video.sha256 != event.sha256:
            yield f"{event.job_id}: what a client downloaded is not the job's video"


def _unexplained_failures(history: History, evidence: Evidence) -> Iterator[str]:
    manners = {event.job_id: Manner(event.manner) for event in history.of(Accepted)}
    for job_id, manner in manners.items():
        job = evidence.jobs.get(job_id)
        if job is None:
            continue
        if job.status is JobStatus.FINISHED and manner in _NEVER_FINISHES:
            yield f"{job_id} is finished, though its render ({manner}) cannot be"
        if job.status is not JobStatus.FAILED:
            continue
        code = job.error.code if job.error else None
        if code not in _MAY_FAIL_WITH[manner]:
            yield f"{job_id} ({manner}) failed with {code}"
        elif code not in _AT_ONCE and job.attempt < job.max_attempts:
            yield f"{job_id} failed after {job.attempt} of {job.max_attempts} attempts"


def _cancels(history: History, evidence: Evidence) -> Iterator[str]:
    asked = {event.job_id for event in history.of(CancelAsked)}
    for job in evidence.jobs.values():
        if job.status is JobStatus.CANCELED and job.id not in asked:
            yield f"{job.id} is canceled, and nobody asked for it"
    for event in history.of(CancelAnswered):
        if event.job_id not in evidence.jobs:
            continue  # lost, which is told elsewhere
        job = evidence.jobs[event.job_id]
        canceled = job.status is JobStatus.CANCELED
        if event.code == HTTPStatus.CONFLICT and canceled:
            yield f"{job.id} is canceled, and the cancel was refused"
        # A render may end before it hears of a cancel; but then the job remembers it.
        if event.code == HTTPStatus.OK and not canceled and job.cancel_requested_at is None:
            yield f"{job.id} took a cancel, does not know of it, and is {job.status}"


def _processes(_history: History, evidence: Evidence) -> Iterator[str]:
    for process in evidence.processes:
        yield f"{process} outlived its program"
    for name in evidence.did_not_stop:
        yield f"{name} did not stop in time"


NONE_LOST = "no accepted job is lost"
NONE_DOUBLED = "a job ends once"

Find = Callable[[History, Evidence], Iterable[str]]
INVARIANTS: Sequence[tuple[str, Find]] = (
    (NONE_LOST, _lost),
    ("every job ends", _unended),
    ("one key makes one job", _one_key_two_jobs),
    ("the clients' ledger equals the store's jobs", _jobs_nobody_asked_for),
    ("an ended job never changes", _changed_after_the_end),
    (NONE_DOUBLED, _ended_twice),
    ("a worker that has lost a job changes nothing about it", _breaches),
    ("a finished job has its own result, whole; any other has none", _wrong_results),
    ("no file is nobody's", _files_of_nobody),
    ("a download is the job's video", _downloads),
    ("a job fails only for a reason", _unexplained_failures),
    ("a cancel is answered truly", _cancels),
    ("no process outlives its program", _processes),
    ("no answer is one that no fault excuses", _unexpected_answers),
)
