"""The life of a job against an oracle: whatever happens, in whatever order, on both job stores.

Hypothesis drives the real ``Lifecycle`` over the real store. Callers submit, repeat, cancel and look;
three workers, two of them with a clock that is wrong, claim and report and come back late with a token
that is long lost; time passes; the queue delivers what it likes, and publishers die at its door. After
every step the stored jobs are compared with ``lifecycle_oracle.py``, and these hold:

- a terminal job never changes again, but that its artifacts expire and it is forgotten
- a job is completed at most once
- no job has more attempts than ``max_attempts``
- progress never goes back within an attempt
- an Idempotency-Key of an owner stands for exactly one job
- every job comes up for the sweep at some moment, and a refused call has changed nothing
- when nothing goes wrong any more and one worker lives, every job ends; after its retention it is gone

``pytest tests/contract/test_lifecycle_machine.py --hypothesis-profile thorough`` looks much longer, and
elsewhere every time.
"""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.errors import BackendUnavailable, PromptreelError, PromptRefused
from shared.job import Job, Phase
from shared.ports import JobStore
from shared.submission import Submission
from tests.contract.lifecycle_oracle import (
    JOB_KEPT,
    REPUBLISH_AFTER,
    ExpectedJob,
    Oracle,
    as_expected,
)
from tests.contract.lifecycle_under_test import CLOCK_ERROR_SECONDS, LifecycleUnderTest
from tests.contract.weakest_queue import ProcessDied, Weather
from tests.jobs import SUMMARY, VIDEO

DAY_SECONDS = 24 * 3600

# Everything a worker can say last of a job.
ENDINGS = (
    ("complete", {"artifacts": (VIDEO,), "summary": SUMMARY}),
    ("fail", {"error": BackendUnavailable("The backend is busy.")}),
    ("fail", {"error": PromptRefused("Not that.")}),
    ("release", {}),
    ("acknowledge_cancel", {}),
)

# Few of each, so that what happens happens to the same job.
MOST_JOBS = 2
owners = st.sampled_from(["ada", "bob"])
callers = st.sampled_from(["owner", "owner", "owner", "stranger"])
prompts = st.sampled_from(["an otter", "a heron"])
keys = st.sampled_from([None, "once", "twice"])
workers = st.sampled_from(sorted(CLOCK_ERROR_SECONDS))
weathers = st.just(Weather.FAIR) | st.sampled_from(Weather)


class Claim(NamedTuple):
    """What a worker remembers of a job it got, however late it comes back with it."""

    job_id: str
    worker: str
    token: str


class LifecycleMachine(RuleBasedStateMachine):
    jobs = Bundle("jobs")
    claims = Bundle("claims")

    def __init__(self, open_store: Callable[[], AbstractContextManager[JobStore]]) -> None:
        super().__init__()
        self.oracle = Oracle()
        self.real = LifecycleUnderTest(open_store)
        self.jobs_made = 0
        self.completions: Counter[str] = Counter()
        self.last_seen: dict[str, Job] = {}

    # --- callers

    @precondition(lambda self: self.jobs_made < MOST_JOBS)
    @rule(target=jobs, owner=owners, prompt=prompts, key=keys, weather=weathers)
    def submit(self, owner, prompt, key, weather):
        return self._submit(owner, prompt, key, weather)

    @rule(job=jobs, other_prompt=prompts, weather=weathers)
    def submit_again(self, job, other_prompt, weather):
        """With the key of an earlier job, if it had one."""
        earlier = self.oracle.jobs.get(job)
        if earlier is not None and earlier.idempotency_key is not None:
            self._submit(earlier.owner, other_prompt, earlier.idempotency_key, weather)

    @rule(job=jobs, caller=callers)
    def get(self, job, caller):
        owner = self._who_is(caller, job)
        refusal = self.oracle.get(job, owner)
        self._agrees(refusal, job, partial(self.real.api.get, job, owner=owner))

    @rule(job=jobs, caller=callers)
    def cancel(self, job, caller):
        owner = self._who_is(caller, job)
        refusal = self.oracle.cancel(job, owner, self.real.now)
        self._agrees(refusal, job, partial(self.real.api.cancel, job, owner=owner))

    # --- workers

    @precondition(lambda self: self.real.queue.published)
    @rule(target=claims, job=jobs, worker=workers)
    def deliver(self, job, worker):
        """Any message may come at any time, to anyone, again."""
        if job not in self.real.queue.published:
            return multiple()
        claim = self._claim(job, worker)
        return multiple() if claim is None else claim

    @rule(claim=claims)
    def heartbeat(self, claim):
        self._say(claim, "heartbeat")

    @rule(
        claim=claims,
        phase=st.sampled_from(Phase),
        fraction=st.sampled_from([0.5, 0.0, 1.0, -1.0, 2.0]),
    )
    def report(self, claim, phase, fraction):
        self._say(claim, "report", phase=phase, fraction=fraction)

    @rule(claim=claims, ending=st.sampled_from(ENDINGS))
    def let_go(self, claim, ending):
        """One rule, so that a worker does other things more often than this."""
        step, details = ending
        if self._say(claim, step, **details) and step == "complete":
            self.completions[claim.job_id] += 1

    # --- time, the queue, the sweep

    @rule(seconds=st.sampled_from([1, 9, 20, 31, 3600, DAY_SECONDS]))
    def time_passes(self, seconds):
        self.real.now += timedelta(seconds=seconds)

    @rule(job=jobs, seconds_late=st.sampled_from([0, -1, 1, 20, -20]))
    def time_passes_until_it_matters(self, job, seconds_late):
        """To the very moment, by a clock that is right or wrong, or a second beside it."""
        if job in self.oracle.jobs:
            moment = self.oracle.matters_at(job) + timedelta(seconds=seconds_late)
            self.real.now = max(self.real.now, moment)

    @precondition(lambda self: self.real.queue.published)
    @rule(job=jobs)
    def the_queue_gives_up(self, job):
        if job in self.real.queue.published:
            self.real.queue.give_up(job)

    @rule(sweeper=workers, weather=weathers)
    def sweep(self, sweeper, weather):
        self._sweep(sweeper, weather)

    # --- what must hold

    @invariant()
    def what_must_hold(self):
        stored = self.real.stored()
        assert stored.keys() == self.oracle.jobs.keys()
        for job_id, job in stored.items():
            assert as_expected(job) == self.oracle.jobs[job_id]
        self._check_history(stored)

    def teardown(self):
        try:
            if sys.exc_info()[0] is None:  # else the failure is told as it is
                self._drive_to_the_end()
        finally:
            self.real.close()

    # --- pieces

    def _check_history(self, stored: dict[str, Job]) -> None:
        """What holds whatever the oracle says."""
        for job_id, job in stored.items():
            assert 0 <= job.attempt <= job.max_attempts
            if job_id in self.last_seen:
                check_change(self.last_seen[job_id], job)
        assert all(times == 1 for times in self.completions.values())
        self.last_seen = stored

    def _agrees(self, refusal: str | None, job_id: str, call: Callable[[], Job]) -> bool:
        """The call is refused as the oracle says, or done and returns the job the oracle expects."""
        job, code = outcome_of(call)
        assert code == refusal
        if job is not None:
            assert as_expected(job) == self.oracle.jobs[job_id]
        return job is not None

    def _say(self, claim: Claim, step: str, **details) -> bool:
        """A worker, in time or long forgotten, tells of its job; True if it was heard."""
        lifecycle = self.real.workers[claim.worker]
        refusal = getattr(self.oracle, step)(claim.job_id, claim.token, lifecycle.now(), **details)
        call = partial(getattr(lifecycle, step), claim.job_id, token=claim.token, **details)
        return self._agrees(refusal, claim.job_id, call)

    def _who_is(self, caller: str, job_id: str) -> str:
        is_known = caller == "owner" and job_id in self.oracle.jobs
        return self.oracle.jobs[job_id].owner if is_known else "eve"

    def _submit(self, owner, prompt, key, weather):
        self.real.next_job_id = f"job_{self.jobs_made + 1}"
        job_id = self.oracle.known_by(owner, key) or self.real.next_job_id
        is_new = job_id == self.real.next_job_id
        expected = ExpectedJob(
            owner=owner, prompt=prompt, idempotency_key=key, created_at=self.real.now
        )
        as_accepted = replace(expected)
        refusal = self.oracle.submit(job_id, expected)
        submission = Submission(
            owner=owner,
            prompt=prompt,
            request_id="request",
            body={"prompt": prompt},
            idempotency_key=key,
        )
        self.real.queue.weather = weather
        try:
            returned, code = outcome_of(partial(self.real.api.submit, submission))
        except ProcessDied:
            assert is_new
            returned, code = None, None
        assert code == refusal
        if is_new:
            self.jobs_made += 1
            self._publish_in_the_oracle(job_id, self.real.now, weather)
        if returned is not None:
            assert returned.id == job_id
            stored = self.oracle.jobs[job_id]
            # Who submits is told of a new job as it was accepted, however quick a worker is.
            told = replace(as_accepted, published_at=stored.published_at) if is_new else stored
            assert as_expected(returned) == told
        return job_id if is_new else multiple()

    def _claim(self, job_id: str, worker: str) -> Claim | None:
        lifecycle = self.real.workers[worker]
        job, code = outcome_of(partial(lifecycle.claim, job_id, worker=worker))
        token = job.lease.token if job and job.lease else None
        assert code == self.oracle.claim(job_id, worker, token, lifecycle.now())
        if job is not None:
            assert as_expected(job) == self.oracle.jobs[job_id]
        return Claim(job_id, worker, token) if token else None

    def _publish_in_the_oracle(self, job_id: str, now: datetime, weather: Weather) -> None:
        if weather is Weather.TAKEN_AT_ONCE:
            token = self.real.tokens_taken_at_once[job_id]
            assert self.oracle.claim(job_id, "w1", token, self.real.now) is None
        self.oracle.published(job_id, now, weather)

    def _sweep(self, sweeper: str, weather: Weather) -> None:
        lifecycle, before = self.real.workers[sweeper], self.oracle.snapshot()
        given_up = self.real.queue.given_up
        self.real.queue.weather = weather
        try:
            lifecycle.sweep()
        except ProcessDied:
            died = True
        else:
            died = False
        now = lifecycle.now()
        for job_id in self.oracle.jobs:
            if self.oracle.sweep(job_id, now):
                self._publish_in_the_oracle(job_id, now, weather)
        if not died:
            for job_id in given_up:
                self.oracle.bury(job_id, now)
            assert self.real.queue.given_up == []
        found = {job_id: as_expected(job) for job_id, job in self.real.stored().items()}
        self.oracle.follow(found, before if died else {})

    def _drive_to_the_end(self) -> None:
        """Every worker so far is dead, every message so far is lost. A worker starts."""
        for _ in range(3):
            heard = len(self.real.queue.published)
            self.time_passes(REPUBLISH_AFTER.total_seconds() + 60)
            self._sweep("w1", Weather.FAIR)
            self.what_must_hold()
            for job_id in self.real.queue.published[heard:]:
                claim = self._claim(job_id, "w1")
                if claim is not None:
                    self.let_go(claim, ENDINGS[0])
        self.what_must_hold()
        assert [job.id for job in self.last_seen.values() if not job.status.is_terminal] == []
        for _ in range(4):
            self.time_passes(JOB_KEPT.total_seconds())
            self._sweep("w1", Weather.FAIR)
        assert self.real.stored() == {}


def outcome_of(call: Callable[[], Job]) -> tuple[Job | None, str | None]:
    """The job, or the code of the error it was refused with."""
    try:
        return call(), None
    except PromptreelError as error:
        return None, error.code


def check_change(before: Job, after: Job) -> None:
    if before.status.is_terminal:
        kept = ("status", "attempt", "progress", "finished_at", "summary", "error", "lease")
        assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
        assert after.artifacts in (before.artifacts, ())
    if after.lease and before.lease and after.lease.token == before.lease.token:
        assert after.attempt == before.attempt
        assert after.progress >= before.progress


# How many lives are tried of a hundred Hypothesis would: each step on the emulator is a few calls.
PERCENT_OF_EXAMPLES = {"local": 300, "gcp": 16}


@pytest.mark.timeout(900)  # to find a failure takes seconds; to make it small, up to five minutes
def test_whatever_happens_a_job_is_where_the_oracle_says_and_ends_once(fresh_job_store, request):
    percent = PERCENT_OF_EXAMPLES[request.node.callspec.params["fresh_job_store"]]
    run_state_machine_as_test(
        lambda: LifecycleMachine(fresh_job_store),
        settings=settings(
            settings.default,
            max_examples=settings.default.max_examples * percent // 100,
            stateful_step_count=40,
            derandomize=settings.get_current_profile_name() != "thorough",
            print_blob=True,
            report_multiple_bugs=False,  # to shrink one takes long enough
            phases=(HypothesisPhase.generate, HypothesisPhase.shrink),
            deadline=None,  # an emulator's answer takes what it takes
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
