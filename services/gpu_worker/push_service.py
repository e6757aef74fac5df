"""One process's worker, entered from the threads of a web server.

The worker starts with the first call, not before: the server forks after it has loaded the
application, and neither a thread nor a client of Google's survives that.
"""

import atexit
import signal
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from anyio.from_thread import BlockingPortal, start_blocking_portal

from services.gpu_worker.push import PushWorker
from services.gpu_worker.push_answers import Answer
from services.gpu_worker.supervisor import RENDER_PROCESS
from services.gpu_worker.workspace import open_workspace
from shared import transitions as rules
from shared.adapters.gcp.oidc import GOOGLE_CERTIFICATES_URL, caller_check
from shared.adapters.gcp.push_envelope import Pushed, parse_push
from shared.catalog import find_model
from shared.config import Config
from shared.errors import (
    JobAlreadyTerminal,
    JobNotFound,
    LeaseHeld,
    PromptreelError,
)
from shared.ports import Delivery
from shared.wiring import Wiring, wire

# The longest a push subscription can wait for an answer, and what is left of it for the wire.
PUSH_SECONDS = 600.0
_MARGIN_SECONDS = 10.0

log = structlog.get_logger("promptreel.push")

_wire = partial(wire, service="worker")


def server_stops() -> bool:
    """Whether gunicorn has told this process to stop.

    It does so by a signal, handled by a method of its worker; a thread cannot handle one itself,
    but it can see what the handler has noted.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "alive", True) is False


@dataclass(frozen=True, kw_only=True)
class _Started:
    """What the first call has started."""

    wiring: Wiring
    portal: BlockingPortal
    workspace: Path
    resources: ExitStack


class PushService:
    """Safe to call from many threads, each of which waits for its own message's answer."""

    def __init__(
        self,
        config: Config,
        *,
        instance: str,
        line_length: int = 4,
        push_seconds: float = PUSH_SECONDS,
        command: Sequence[str] = RENDER_PROCESS,
        certificates_url: str = GOOGLE_CERTIFICATES_URL,
        stop_requested: Callable[[], bool] = server_stops,
        open_wiring: Callable[[Config], Wiring] = _wire,
    ) -> None:
        self._config = config
        self._instance = instance
        self._line_length = line_length
        self._command = command
        self._stop_requested = stop_requested
        self._open_wiring = open_wiring
        # Who waits longer would be pushed again before the longest render is done.
        longest = find_model(config.worker_model).max_render_seconds
        self._wait_seconds = max(0.0, push_seconds - longest - _MARGIN_SECONDS)
        self._caller_check = caller_check(config.gcp.push, certificates_url)
        self._lock = threading.Lock()
        # Guarded by it.
        self._started: _Started | None = None
        self._worker: PushWorker | None = None
        self._run: Future[None] | None = None
        self._failure: BaseException | None = None

    def check_caller(self, authorization: str | None) -> None:
        """Raises ``UntrustedCaller``, if the configuration says who may push."""
        if self._caller_check is not None:
            self._caller_check.check(authorization)

    def take(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """See one push through. Raises ``UnreadableMessage`` and ``TransientError``."""
        pushed = parse_push(headers, body)
        if self._stop_requested():
            return Answer.REDELIVER
        started, worker = self._working()
        if _is_settled(started.wiring, pushed.message.job_id, worker=self._instance):
            return Answer.ACKNOWLEDGE
        answer = started.portal.call(worker.line_up, _delivery(pushed, self._config))
        try:
            return answer.result(timeout=self._wait_seconds)
        except TimeoutError:
            if answer.cancel():
                log.warning("waited too long", job_id=pushed.message.job_id)
                return Answer.REDELIVER
            return answer.result()

    def why_not_ready(self) -> str | None:
        """What keeps a render from starting now; None when nothing does."""
        if self._stop_requested():
            return "the worker stops"
        try:
            _, worker = self._working()
        except PromptreelError as error:
            log.exception("worker not started")
            return error.code
        if worker.model_loaded:
            self._failure = None
            return None
        failure = self._failure
        if failure is None:
            return "the model is being loaded"
        # The message may name paths; it is in the log.
        return failure.code if isinstance(failure, PromptreelError) else "the worker has failed"

    def close(self) -> None:
        """Hand the running jobs back, end the worker."""
        with self._lock:
            started, self._started = self._started, None
            worker, run = self._worker, self._run
        if started is None or worker is None or run is None:
            return
        started.portal.call(worker.stop)
        with suppress(CancelledError, Exception):  # It has been logged when it happened.
            run.result()
        started.resources.close()

    def _working(self) -> tuple[_Started, PushWorker]:
        """The worker, started if there is none, or if the last one has failed."""
        with self._lock:
            if self._started is None:
                self._started = self._start()
            if self._worker is None or self._run is None or self._run.done():
                portal = self._started.portal
                self._worker = portal.call(self._new_worker, self._started)
                self._run = portal.start_task_soon(self._worker.run)
                self._run.add_done_callback(self._ended)
            return self._started, self._worker

    def _start(self) -> _Started:
        with ExitStack() as resources:
            wiring = self._open_wiring(self._config)
            resources.callback(wiring.close)
            folder = open_workspace(self._config.data_dir / "work", instance=self._instance)
            workspace = resources.enter_context(folder)
            portal = resources.enter_context(start_blocking_portal(backend="trio", name="worker"))
            atexit.register(self.close)
            return _Started(
                wiring=wiring, portal=portal, workspace=workspace, resources=resources.pop_all()
            )

    def _new_worker(self, started: _Started) -> PushWorker:
        return PushWorker(
            started.wiring,
            instance=self._instance,
            workspace=started.workspace,
            line_length=self._line_length,
            command=self._command,
            stop_requested=self._stop_requested,
            is_first=self._worker is None,
        )

    def _ended(self, run: Future[None]) -> None:
        error = None if run.cancelled() else run.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self._failure = error
        if error is not None:
            log.error("worker ended", exc_info=error)


def _is_settled(wiring: Wiring, job_id: str, *, worker: str) -> bool:
    """Whether a claim would find nothing to do: then nobody needs to stand in line for it."""
    try:
        job = wiring.store.get(job_id)
        rules.claim(job, token="", worker=worker, now=wiring.lifecycle.now(), lease_seconds=1)
    except (JobNotFound, JobAlreadyTerminal, LeaseHeld) as reason:
        log.info("message needs no work", job_id=job_id, code=reason.code)
        return True
    return False


def _delivery(pushed: Pushed, config: Config) -> Delivery:
    return Delivery(
        message=pushed.message,
        receipt=uuid.uuid4().hex,  # two pushes of one message are two requests
        topic=find_model(config.worker_model).topic,
        delivery_attempt=pushed.delivery_attempt or 1,
    )
