"""One message → one outcome: the job is finished, failed, canceled, or goes back to the queue."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

from services.gpu_worker.attempt import Attempt, StopReason
from services.gpu_worker.protocol import Render, RenderedFile
from services.gpu_worker.supervisor import RenderStopped, Supervisor
from services.gpu_worker.workspace import job_folder
from shared.catalog import CATALOG, Model
from shared.errors import (
    JobAlreadyTerminal,
    JobNotFound,
    LeaseHeld,
    LeaseLost,
    PromptreelError,
    RenderCrashed,
    RenderTimedOut,
    TransientError,
)
from shared.job import Artifact, Job, JobStatus, Phase, RenderSummary, artifact_key
from shared.ports import Delivery
from shared.wiring import Wiring

# How long a finished render waits for a store that does not answer.
_SETTLE_SECONDS = 20.0

log = structlog.get_logger("promptreel.consumer")


class Consumer:
    """Takes deliveries one at a time, as the supervisor renders one at a time."""

    def __init__(
        self,
        wiring: Wiring,
        supervisor: Supervisor,
        *,
        instance: str,
        workspace: Path,
        catalog: Mapping[str, Model] = CATALOG,
    ) -> None:
        self._wiring = wiring
        self._supervisor = supervisor
        self._instance = instance
        self._workspace = workspace
        self._catalog = catalog
        self._attempt: Attempt | None = None

    @property
    def job_id(self) -> str | None:
        """The job in work."""
        return self._attempt.job.id if self._attempt else None

    async def consume(self, delivery: Delivery) -> None:
        """See one delivery through. Raises ``TransientError`` only if it could not be answered."""
        queue, job_id = self._wiring.queue, delivery.message.job_id
        claim = partial(self._wiring.lifecycle.claim, job_id, worker=self._instance)
        try:
            job = await to_thread.run_sync(claim)
        except (JobNotFound, JobAlreadyTerminal, LeaseHeld) as reason:
            # Not ours to render. The sweep owns recovery, so nothing is lost by saying "done".
            log.info("message needs no work", job_id=job_id, code=reason.code)
            await to_thread.run_sync(queue.acknowledge, delivery)
            return
        except TransientError:
            await to_thread.run_sync(queue.release, delivery)
            return
        if job.lease is None:
            await to_thread.run_sync(queue.acknowledge, delivery)
            return
        self._attempt = Attempt(job, job.lease, delivery, self._wiring)
        try:
            await self._see_through(self._attempt)
        finally:
            self._attempt = None

    async def hand_back(self) -> None:
        """The worker is going down: give its job back to the queue at once, then stop it."""
        attempt = self._attempt
        if attempt is None:
            return
        try:
            release = partial(self._wiring.lifecycle.release, token=attempt.token)
            await to_thread.run_sync(release, attempt.job.id)
            again = partial(self._wiring.queue.release, delay_seconds=0)
            await to_thread.run_sync(again, attempt.delivery)
        except (LeaseLost, JobNotFound, TransientError) as error:
            log.warning("job not handed back", job_id=attempt.job.id, code=error.code)
        attempt.stop(StopReason.SHUTDOWN)

    async def _see_through(self, attempt: Attempt) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt.tend)
            outcome = await self._render_and_store(attempt)
            tasks.cancel_scope.cancel()
        # What has begun must be told to the store, even if the worker is told to stop now.
        with anyio.CancelScope(shield=True):
            await attempt.flush()
            await self._settle(attempt, outcome)

    async def _render_and_store(self, attempt: Attempt) -> Callable[[], Job] | None:
        """The call that tells the store how it ended; None if there is nothing to tell."""
        lifecycle, job, token = self._wiring.lifecycle, attempt.job, attempt.token
        stored: list[Artifact] = []
        summary: RenderSummary | None = None
        error: PromptreelError | None = None
        with job_folder(self._workspace, job.id) as folder, attempt.scope:
            try:
                summary = await self._render(attempt, folder, stored)
            except PromptreelError as raised:
                error = raised
            except RenderStopped:
                error = RenderCrashed("The render stopped without being asked to.")
        if attempt.stop_reason is StopReason.CANCEL_REQUESTED and summary is None:
            for artifact in stored:
                await to_thread.run_sync(self._wiring.artifacts.delete, artifact.key)
            attempt.note("canceled")
            return partial(lifecycle.acknowledge_cancel, job.id, token=token)
        if attempt.stop_reason is StopReason.LEASE_LOST:
            self._wiring.metrics.leases_lost.inc()
        if attempt.stop_reason is not None and summary is None:
            return None
        if error is not None or summary is None:
            error = error or RenderCrashed("The render ended without a result.")
            attempt.note(f"attempt {job.attempt} of {job.max_attempts} failed: {error.message}")
            return partial(lifecycle.fail, job.id, token=token, error=error)
        attempt.note(f"finished in {summary.generation_seconds:.1f} s")
        return partial(
            lifecycle.complete, job.id, token=token, artifacts=tuple(stored), summary=summary
        )

    async def _render(
        self, attempt: Attempt, folder: Path, stored: list[Artifact]
    ) -> RenderSummary:
        job, model = attempt.job, self._catalog[attempt.job.request.model]
        started = time.monotonic()
        attempt.note(f"attempt {job.attempt} of {job.max_attempts} on {self._supervisor.device}")
        try:
            with anyio.fail_after(model.max_render_seconds):
                command = render_command(job, model, folder)
                rendered = await self._supervisor.render(command, attempt.hear)
        except TimeoutError:
            limit = model.max_render_seconds
            raise RenderTimedOut(f"The render took longer than {limit} seconds.") from None
        generation_seconds = time.monotonic() - started
        attempt.enter(Phase.UPLOAD)
        upload_started = time.monotonic()
        for index, file in enumerate(rendered.files):
            stored.append(await self._store(job, file))
            attempt.enter(Phase.UPLOAD, (index + 1) / len(rendered.files))
            await anyio.lowlevel.checkpoint()  # between two files a cancel is heard
        upload_seconds = time.monotonic() - upload_started
        self._wiring.metrics.upload_seconds.observe(upload_seconds)
        attempt.note(f"upload: {len(stored)} files in {upload_seconds:.2f} s")
        return RenderSummary(
            device=self._supervisor.device or "unknown",
            frames=rendered.frames,
            fps=rendered.fps,
            native_size=str(model.native_size),
            output_size=str(model.output_size(job.request.resolution)),
            generation_seconds=round(generation_seconds, 3),
            phase_seconds={**rendered.phase_seconds, Phase.UPLOAD.value: round(upload_seconds, 3)},
        )

    async def _store(self, job: Job, file: RenderedFile) -> Artifact:
        prefix = self._wiring.config.artifacts.prefix
        key = artifact_key(job, prefix=prefix, name=file.path.name)
        put = partial(self._wiring.artifacts.put, content_type=file.content_type)
        stored = await to_thread.run_sync(put, key, file.path)
        return Artifact(
            kind=file.kind,
            key=stored.key,
            uri=stored.uri,
            content_type=file.content_type,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            width=file.width,
            height=file.height,
        )

    async def _settle(self, attempt: Attempt, outcome: Callable[[], Job] | None) -> None:
        """Tell the store, then the queue, in that order: a crash between them repeats only this."""
        queue, delivery = self._wiring.queue, attempt.delivery
        if attempt.stop_reason is StopReason.SHUTDOWN and outcome is None:
            return  # `hand_back` has told both.
        job: Job | None = None
        if outcome is not None:
            try:
                job = await _insist(partial(to_thread.run_sync, outcome))
            except (LeaseLost, JobNotFound):
                self._wiring.metrics.leases_lost.inc()
        if job is not None and job.status is JobStatus.QUEUED:
            await to_thread.run_sync(queue.release, delivery)
        else:
            await to_thread.run_sync(queue.acknowledge, delivery)


async def _insist(call: Callable[[], Awaitable[Job]]) -> Job:
    """Call again while the store is unavailable, for a while; then the sweep must mend it."""
    deadline = anyio.current_time() + _SETTLE_SECONDS
    pause_seconds = 0.2
    while True:
        try:
            return await call()
        except TransientError:
            if anyio.current_time() + pause_seconds > deadline:
                raise
            await anyio.sleep(pause_seconds)
            pause_seconds *= 2


def render_command(job: Job, model: Model, work_dir: Path) -> Render:
    """What the render process is told: the request, spelled out by the catalog."""
    request = job.request
    preset = model.presets[request.preset]
    output = model.output_size(request.resolution)
    return Render(
        job_id=job.id,
        prompt=request.prompt,
        negative_prompt=model.negative_prompt,
        seed=request.seed,
        frames=model.frames(request.duration_seconds),
        fps=model.fps,
        native_width=model.native_size.width,
        native_height=model.native_size.height,
        output_width=output.width,
        output_height=output.height,
        steps=preset.steps,
        guidance_scale=preset.guidance_scale,
        flow_shift=preset.flow_shift,
        work_dir=work_dir,
    )
