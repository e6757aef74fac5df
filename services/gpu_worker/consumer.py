"""One message → one outcome: the job is finished, failed, canceled, or goes back to the queue."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus

from services.gpu_worker.attempt import Attempt, StopReason
from services.gpu_worker.kept_parts import KeptParts
from services.gpu_worker.orders import render_command
from services.gpu_worker.port_calls import call_port, insist
from services.gpu_worker.protocol import Render, Rendered
from services.gpu_worker.render_outcome import RenderInterrupted, RenderStopped, RenderUnfinished
from services.gpu_worker.supervisor import Supervisor
from services.gpu_worker.turn import Turn
from services.gpu_worker.upload import Upload
from services.gpu_worker.workspace import job_folder
from shared.catalog import CATALOG, Model, find_model
from shared.errors import (
    JobAlreadyTerminal,
    JobNotFound,
    LeaseHeld,
    LeaseLost,
    OtherWorkersJob,
    PromptreelError,
    RenderCrashed,
    RenderTimedOut,
    TransientError,
)
from shared.job import Job, JobStatus, Phase, RenderSummary
from shared.ports import Delivery
from shared.telemetry import Span, trace_id
from shared.wiring import Wiring

# How long a finished render waits for a store that does not answer.
_SETTLE_SECONDS = 20.0
# What a worker that goes down has left to hand its jobs back, or to settle them.
_STOP_SECONDS = 2.0
# Files stored at the same time: one a job, and what was given up and is still on its way.
_UPLOAD_THREADS_TO_SPARE = 3

_WORKER_STOPS = "the worker stops"

log = structlog.get_logger("promptreel.consumer")


def _outcome(job: Job | None) -> str:
    return "unsettled" if job is None else job.status.value


class Consumer:
    """Has several jobs in work: one on the device, those before it being finished and settled."""

    def __init__(
        self,
        wiring: Wiring,
        supervisor: Supervisor,
        *,
        instance: str,
        workspace: Path,
        catalog: Mapping[str, Model] = CATALOG,
        longest_render_seconds: float = math.inf,
    ) -> None:
        """What is not rendered in the longest time is handed back, if parts of it are done."""
        self._wiring = wiring
        self._supervisor = supervisor
        self._instance = instance
        self._workspace = workspace
        self._catalog = catalog
        self._longest_render_seconds = longest_render_seconds
        self._jobs_at_once = wiring.config.worker.jobs_at_once
        self._upload_threads = anyio.CapacityLimiter(self._jobs_at_once + _UPLOAD_THREADS_TO_SPARE)
        self._deliveries = 0  # being seen through
        self._one_is_through = anyio.Event()
        self._attempts: list[Attempt] = []  # in the order of their claims
        self._stopping = False

    @property
    def job_id(self) -> str | None:
        """Of the jobs in work, the one begun last: the device's, if it is anyone's."""
        return self._attempts[-1].job.id if self._attempts else None

    async def wait_for_room(self) -> None:
        """Until there are fewer deliveries than a worker may have."""
        while self._deliveries >= self._jobs_at_once:
            await self._one_is_through.wait()

    async def consume(
        self, delivery: Delivery, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
    ) -> None:
        """See one delivery through. Raises ``TransientError`` only if it could not be answered.

        As a task it has started when the device is free for the next delivery. Call ``hand_back``
        before you cancel this: what is claimed would wait for its lease to end.
        """
        turn = Turn(task_status)
        message = delivery.message
        self._deliveries += 1
        try:
            with (
                structlog.contextvars.bound_contextvars(trace=trace_id(message.traceparent)),
                self._wiring.traces.span(
                    f"consume {delivery.topic}",
                    parent=message.traceparent,
                    kind="consumer",
                    attributes={"promptreel.job_id": message.job_id},
                ) as span,
            ):
                attempt = await self._begin(delivery, turn, span)
                if attempt is not None:
                    await self._see_through(attempt)
        finally:
            self._deliveries -= 1
            self._one_is_through.set()
            self._one_is_through = anyio.Event()
            turn.end()

    async def hand_back(self) -> None:
        """The worker goes down: its jobs are back in the queue, or settled, when this returns.

        A store that does not answer is not waited for: then the leases expire.
        """
        self._stopping = True
        given_up = [each for each in self._attempts if each.give_up(_WORKER_STOPS)]
        self._supervisor.end()
        with anyio.move_on_after(_STOP_SECONDS):
            async with anyio.create_task_group() as tasks:
                for attempt in given_up:
                    tasks.start_soon(partial(attempt.hand_back, seconds=_STOP_SECONDS))
            while self._deliveries:
                await self._one_is_through.wait()

    async def _begin(self, delivery: Delivery, turn: Turn, span: Span) -> Attempt | None:
        """Claim the job; None if it is not ours, and the queue is told."""
        queue, job_id = self._wiring.queue, delivery.message.job_id
        release = partial(queue.release, delivery)
        if not self._may_claim():
            await call_port(partial(release, delay_seconds=0))
            return None
        claim = partial(
            self._wiring.lifecycle.claim, job_id, worker=self._instance, topic=delivery.topic
        )
        try:
            job = await call_port(claim)
        except (JobNotFound, JobAlreadyTerminal, LeaseHeld, OtherWorkersJob) as reason:
            # Not ours to render. The sweep owns recovery, so nothing is lost by saying "done".
            log.info("message needs no work", job_id=job_id, code=reason.code)
            span.note({"promptreel.outcome": reason.code})
            await call_port(partial(queue.acknowledge, delivery))
            return None
        except TransientError:
            await call_port(release)
            return None
        if job.lease is None:
            await call_port(partial(queue.acknowledge, delivery))
            return None
        span.note({"promptreel.attempt": job.attempt, "promptreel.model": job.request.model})
        attempt = Attempt(job, job.lease, delivery, self._wiring, leave_device=turn.end, span=span)
        if self._stopping:  # since the claim was sent
            attempt.give_up(_WORKER_STOPS)
            await attempt.hand_back(seconds=_STOP_SECONDS)
            await attempt.flush()
            return None
        return attempt

    def _may_claim(self) -> bool:
        return self._supervisor.model_loaded and not self._stopping

    async def _see_through(self, attempt: Attempt) -> None:
        job, threads = attempt.job, self._upload_threads
        upload = Upload(job, self._wiring, threads=threads)
        parts = KeptParts(job, self._wiring, self._workspace / job.id, threads=threads)
        attempt.part_made = parts.made
        self._attempts.append(attempt)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(attempt.tend)
                tasks.start_soon(parts.store)
                outcome = await self._render_and_store(attempt, upload, parts)
                attempt.is_settling = True
                await attempt.flush()
                tasks.cancel_scope.cancel()
            with self._span("settle", attempt):
                ended = await self._settle(attempt, outcome)
            attempt.span.note({"promptreel.outcome": attempt.stop_reason or _outcome(ended)})
            if ended is None or ended.status is not JobStatus.FINISHED:
                await upload.give_up()
            if ended is not None and ended.status.is_terminal:
                await parts.remove()
        finally:
            self._attempts.remove(attempt)
            attempt.over.set()

    async def _end_earlier(self, attempt: Attempt) -> None:
        """This worker may still have one of the same job, whose lease it has lost unawares."""
        for earlier in self._attempts[: self._attempts.index(attempt)]:
            if earlier.job.id == attempt.job.id:
                earlier.stop(StopReason.LEASE_LOST)
                await earlier.over.wait()

    async def _render_and_store(
        self, attempt: Attempt, upload: Upload, parts: KeptParts
    ) -> Callable[[], Job] | None:
        """The call that tells the store how it ended; None if there is nothing to tell."""
        lifecycle, job, token = self._wiring.lifecycle, attempt.job, attempt.token
        summary: RenderSummary | None = None
        error: PromptreelError = RenderCrashed("The render ended without a result.")
        no_fault_of_its_own: str | None = None
        with attempt.scope:
            await self._end_earlier(attempt)
            try:
                with job_folder(self._workspace, job.id) as folder:
                    summary = await self._render(attempt, upload, parts, folder)
            except PromptreelError as raised:
                error = raised
            except RenderStopped:
                error = RenderCrashed("The render stopped without being asked to.")
            except RenderInterrupted:
                no_fault_of_its_own = "another job's render had to be killed"
            except RenderUnfinished:
                no_fault_of_its_own = "its time here is over; what is done of it is kept"
        attempt.leave_device()
        if no_fault_of_its_own is not None and attempt.give_up(no_fault_of_its_own):
            await attempt.hand_back(seconds=_SETTLE_SECONDS)
        if attempt.stop_reason is StopReason.HANDED_BACK:
            return None  # `hand_back` tells, and has begun to.
        if summary is not None:
            attempt.note(f"finished in {summary.generation_seconds:.1f} s")
            artifacts = tuple(upload.artifacts)
            return partial(
                lifecycle.complete, job.id, token=token, artifacts=artifacts, summary=summary
            )
        if attempt.stop_reason is StopReason.CANCEL_REQUESTED:
            attempt.note("canceled")
            return partial(lifecycle.acknowledge_cancel, job.id, token=token)
        if attempt.stop_reason is StopReason.LEASE_LOST:
            self._wiring.metrics.leases_lost.inc()
            return None
        attempt.note(f"attempt {job.attempt} of {job.max_attempts} failed: {error.message}")
        return partial(lifecycle.fail, job.id, token=token, error=error)

    async def _render(
        self, attempt: Attempt, upload: Upload, parts: KeptParts, folder: Path
    ) -> RenderSummary:
        job, model = attempt.job, self._catalog[attempt.job.request.model]
        started = time.monotonic()
        attempt.note(f"attempt {job.attempt} of {job.max_attempts} on {self._supervisor.device}")
        with self._span("render", attempt) as span:
            command = render_command(
                job.id, job.render, model, folder, traceparent=span.traceparent
            )
            rendered = await self._go_on(attempt, parts, command, model)
        attempt.leave_device()
        generation_seconds = time.monotonic() - started
        with self._span("upload", attempt):
            upload_seconds = await self._store(attempt, upload, rendered)
        return RenderSummary(
            device=self._supervisor.device or "unknown",
            frames=rendered.frames,
            fps=rendered.fps,
            native_size=str(model.native_size),
            output_size=str(model.output_size(job.render.resolution)),
            generation_seconds=round(generation_seconds, 3),
            phase_seconds={**rendered.phase_seconds, Phase.UPLOAD.value: round(upload_seconds, 3)},
        )

    async def _go_on(
        self, attempt: Attempt, parts: KeptParts, command: Render, model: Model
    ) -> Rendered:
        """Render, but for what an earlier attempt has made."""
        found = await parts.fetch()
        if found:
            attempt.note(f"{found} parts of an earlier attempt are there")
        whole = model.max_render_seconds * command.segments
        limit = min(whole, self._longest_render_seconds)
        try:
            with anyio.fail_after(limit):
                return await self._supervisor.render(command, attempt.hear)
        except TimeoutError:
            if parts.stored and limit < whole:
                raise RenderUnfinished from None
            raise RenderTimedOut(f"The render took longer than {limit:.0f} seconds.") from None

    async def _store(self, attempt: Attempt, upload: Upload, rendered: Rendered) -> float:
        """Store the rendered files; return the seconds it took."""
        attempt.enter(Phase.UPLOAD)
        started = time.monotonic()
        await attempt.make_sure()
        for index, file in enumerate(rendered.files):
            await upload.store(file)
            attempt.enter(Phase.UPLOAD, (index + 1) / len(rendered.files))
        await anyio.lowlevel.checkpoint()  # A stop that came by now is heard.
        seconds = time.monotonic() - started
        self._wiring.metrics.upload_seconds.observe(seconds)
        attempt.note(f"upload: {len(upload.artifacts)} files in {seconds:.2f} s")
        return seconds

    async def _settle(self, attempt: Attempt, outcome: Callable[[], Job] | None) -> Job | None:
        """Tell the store, then the queue, in that order: a crash between them repeats only this."""
        job: Job | None = None
        if outcome is not None:
            try:
                job = await insist(outcome, seconds=_SETTLE_SECONDS)
            except (LeaseLost, JobNotFound):
                self._wiring.metrics.leases_lost.inc()
        answer = self._wiring.queue.acknowledge
        if job is not None and self._comes_back_here(job, attempt.delivery):
            answer = self._wiring.queue.release
        if attempt.stop_reason is not StopReason.HANDED_BACK:  # `hand_back` has told the queue.
            await call_port(partial(answer, attempt.delivery))
        return job

    def _span(self, name: str, attempt: Attempt) -> AbstractContextManager[Span]:
        return self._wiring.traces.span(name, parent=attempt.span.traceparent)

    def _comes_back_here(self, job: Job, delivery: Delivery) -> bool:
        """Not one that went to the fallback backend: that has a message of its own on another topic."""
        topic = find_model(job.request.model).topic
        return job.status is JobStatus.QUEUED and topic == delivery.topic
