"""A session in which everything went right, and what is said when one thing in it is wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.torture.evidence import Evidence, FoundFile, endings_in, errors_in, left_in
from services.torture.history import (
    Accepted,
    CancelAnswered,
    CancelAsked,
    CreateAsked,
    Event,
    Fetched,
    History,
    Hurt,
    Seen,
    Unexpected,
)
from services.torture.invariants import check
from services.torture.measures import cancels_of_running_jobs
from shared.job import (
    Job,
    JobError,
    JobStatus,
)
from tests.jobs import NOON, VIDEO, plain_job

FILES = {"video": "final_video.mp4", "poster": "poster.jpg", "spritesheet": "spritesheet.jpg"}


def job(number: int, status: JobStatus, **fields) -> Job:
    job_id = f"job_{number}"
    artifacts = ()
    if status is JobStatus.FINISHED:
        artifacts = tuple(
            replace(
                VIDEO,
                kind=kind,
                key=f"videos/2026-01/{job_id}/{name}",
                sha256=f"sha of {job_id} {name}",
            )
            for kind, name in FILES.items()
        )
    ended = {"status": status, "attempt": 1, "finished_at": NOON, "artifacts": artifacts}
    return plain_job(**{"id": job_id, "idempotency_key": f"key {number}", **ended, **fields})


JOBS = (
    job(1, JobStatus.FINISHED),
    job(2, JobStatus.CANCELED, cancel_requested_at=NOON),
    job(3, JobStatus.FAILED, attempt=3, error=JobError(code="render_crashed", message="…")),
)
MANNERS = {"job_1": "steady", "job_2": "slow", "job_3": "crash"}


def files_of(jobs) -> dict[str, FoundFile]:
    return {
        artifact.key: FoundFile(
            sha256=artifact.sha256,
            begins_with=f"{artifact.kind} of {each.id} seed 7",
        )
        for each in jobs
        for artifact in each.artifacts
    }


def story() -> list[Event]:
    events: list[Event] = []
    for at, each in enumerate(JOBS):
        key = each.idempotency_key
        events += [
            CreateAsked(at=at, key=key),
            Accepted(at=at, key=key, job_id=each.id, manner=MANNERS[each.id]),
            Seen(at=at + 0.1, job_id=each.id, status="started", progress=0),
        ]
    events += [
        CancelAsked(at=5, job_id="job_2"),
        CancelAnswered(at=5.1, job_id="job_2", asked_at=5, status_before="started", code=200),
    ]
    events += [
        Seen(at=6, job_id=each.id, status=each.status.value, progress=each.progress)
        for each in JOBS
    ]
    events.append(
        Fetched(
            at=7,
            job_id="job_1",
            sha256="sha of job_1 final_video.mp4",
            begins_with="video of job_1",
        )
    )
    return events


def all_is_well() -> Evidence:
    return Evidence(
        jobs={each.id: each for each in JOBS},
        files=files_of(JOBS),
        partial_files=[],
        endings={each.id: [each.status.value] for each in JOBS},
        breaches=[],
        processes=[],
        did_not_stop=[],
        errors_logged=[],
    )


@pytest.fixture
def judge(tmp_path) -> Callable[..., list[str]]:
    """The sentences that do not hold of a story and of what was found."""

    def judged(events: list[Event], evidence: Evidence) -> list[str]:
        history = History(tmp_path / "history.jsonl")
        try:
            for event in events:
                history.add(event)
            return sorted({violation.invariant for violation in check(history, evidence)})
        finally:
            history.close()

    return judged


def found(evidence: Evidence, **jobs: Job) -> Evidence:
    return replace(evidence, jobs={**evidence.jobs, **jobs})


def test_nothing_is_said_when_all_is_well(judge):
    assert judge(story(), all_is_well()) == []


def test_a_lost_job(judge):
    evidence = all_is_well()
    jobs = {job_id: each for job_id, each in evidence.jobs.items() if job_id != "job_3"}
    assert judge(story(), replace(evidence, jobs=jobs)) == ["no accepted job is lost"]


def test_a_job_left_hanging(judge):
    hanging = job(4, JobStatus.PROGRESS, idempotency_key="key 1")
    assert judge(story(), found(all_is_well(), job_4=hanging)) == ["every job ends"]


def test_a_key_that_made_two_jobs(judge):
    twin = replace(JOBS[2], id="job_4", idempotency_key="key 3")
    events = [*story(), Accepted(at=9, key="key 3", job_id="job_4", manner="crash")]
    assert judge(events, found(all_is_well(), job_4=twin)) == ["one key makes one job"]


def test_a_job_nobody_asked_for(judge):
    stranger = job(4, JobStatus.FINISHED)
    evidence = found(all_is_well(), job_4=stranger)
    evidence = replace(evidence, files=files_of(evidence.jobs.values()))
    assert judge(story(), evidence) == ["the clients' ledger equals the store's jobs"]


def test_an_end_that_changed(judge):
    events = [*story(), Seen(at=9, job_id="job_2", status="started", progress=0)]
    assert judge(events, all_is_well()) == ["an ended job never changes"]


def test_a_job_ended_twice(judge):
    endings = {**all_is_well().endings, "job_1": ["finished", "finished"]}
    assert judge(story(), replace(all_is_well(), endings=endings)) == ["a job ends once"]


def test_a_worker_that_acted_on_anothers_job(judge):
    evidence = replace(all_is_well(), breaches=["worker-a: job_1, attempt 2"])
    assert judge(story(), evidence) == ["a worker that has lost a job changes nothing about it"]


RESULT = "a finished job has its own result, whole; any other has none"


def test_a_result_that_was_overwritten(judge):
    files = dict(all_is_well().files)
    key = "videos/2026-01/job_1/poster.jpg"
    files[key] = replace(files[key], sha256="of a later attempt")
    assert judge(story(), replace(all_is_well(), files=files)) == [RESULT]


def test_a_result_that_was_rendered_for_another_job(judge):
    files = dict(all_is_well().files)
    key = "videos/2026-01/job_1/final_video.mp4"
    files[key] = replace(files[key], begins_with="video of job_7 seed 7")
    assert judge(story(), replace(all_is_well(), files=files)) == [RESULT]


def test_a_finished_job_without_its_files(judge):
    assert judge(story(), replace(all_is_well(), files={})) == [RESULT]


def test_a_file_of_nobody_and_a_scratch_file_left_behind(judge):
    nobodys = {"videos/2026-01/job_2/final_video.mp4": FoundFile(sha256="x", begins_with="")}
    for evidence in (
        replace(all_is_well(), files={**all_is_well().files, **nobodys}),
        replace(all_is_well(), partial_files=["work/worker-a/job_2/frames"]),
    ):
        assert judge(story(), evidence) == ["no file is nobody's"]


def test_a_download_of_something_else(judge):
    events = [*story(), Fetched(at=9, job_id="job_1", sha256="another", begins_with="")]
    assert judge(events, all_is_well()) == ["a download is the job's video"]


@pytest.mark.parametrize(
    "failed",
    [
        replace(JOBS[2], attempt=1),  # with attempts left
        replace(JOBS[2], error=JobError(code="undeliverable", message="…")),
    ],
)
def test_a_failure_without_a_reason(judge, failed):
    evidence = found(all_is_well(), job_3=failed)
    assert judge(story(), evidence) == ["a job fails only for a reason"]


def test_a_cancel_that_was_taken_and_forgotten(judge):
    forgotten = replace(JOBS[0], id="job_1")
    events = [
        *story(),
        CancelAsked(at=3, job_id="job_1"),
        CancelAnswered(at=3.1, job_id="job_1", asked_at=3, status_before="started", code=200),
    ]
    assert judge(events, found(all_is_well(), job_1=forgotten)) == ["a cancel is answered truly"]


def test_a_cancel_nobody_asked_for(judge):
    events = [event for event in story() if not isinstance(event, CancelAsked | CancelAnswered)]
    assert judge(events, all_is_well()) == ["a cancel is answered truly"]


def test_an_orphan_and_a_program_that_would_not_stop(judge):
    sentence = ["no process outlives its program"]
    assert judge(story(), replace(all_is_well(), processes=["77 python stand_in.py"])) == sentence
    assert judge(story(), replace(all_is_well(), did_not_stop=["worker-a"])) == sentence


def test_an_answer_that_no_fault_excuses(judge):
    events = [*story(), Unexpected(at=9, operation="poll", code=500, body="…")]
    assert judge(events, all_is_well()) == ["no answer is one that no fault excuses"]


def test_a_cancel_is_measured_from_the_request_to_the_first_look_that_found_it(tmp_path):
    history = History(tmp_path / "history.jsonl")
    for event in [*story(), Hurt(at=8, fault="kill", target="api", killed=True, attempts={})]:
        history.add(event)
    history.close()
    (measured,) = cancels_of_running_jobs(history)
    assert (measured.began_at, measured.seconds) == (5, 1)


def test_logs_tell_who_ended_a_job_and_what_nobody_expected(tmp_path):
    log = tmp_path / "worker.log"
    log.write_text(
        '{"message": "job ended", "job_id": "job_1", "outcome": "finished"}\n'
        '{"severity": "ERROR", "exception": "Traceback …\\nValueError: no"}\n'
        '{"message": "job ended", "job_id": "job_1", "outc'
    )
    assert endings_in([log]) == {"job_1": ["finished"]}
    assert errors_in([log]) == ["1 × ValueError: no"]


def test_scratch_files_are_found_and_locks_of_the_living_are_none(tmp_path: Path):
    folder = tmp_path / "work"
    (folder / "worker-a" / "job_1").mkdir(parents=True)
    assert left_in(folder) == []
    (folder / "worker-a" / "job_1" / "frames").write_text("half")
    assert left_in(folder) == ["work/worker-a/job_1/frames"]
