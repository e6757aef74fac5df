"""The render process: holds the model, renders what it is told. Speaks ``protocol`` over pipes.

    python -m services.gpu_worker.render_process

Its standard input and output belong to the supervisor. It ends when the supervisor does. One clip is
denoised in the main thread while another one is finished in a second thread; no more than that.
"""

import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.gpu_worker import protocol
from services.gpu_worker.backends import find_backend
from services.gpu_worker.backends.backend import LoadedModel
from services.gpu_worker.pipeline.render_spans import RenderSpans
from services.gpu_worker.pipeline.run import begin
from services.gpu_worker.pipeline.studio import Studio
from services.gpu_worker.pipeline.watcher import RenderCanceled, stop_if_canceled
from services.gpu_worker.render_channel import (
    EXIT_PROTOCOL,
    JobWatcher,
    Outbox,
    complain,
    take_channel,
)
from shared.catalog import find_model
from shared.errors import PromptreelError, RenderCrashed
from shared.telemetry import Traces, traces_of

# Nothing is ever fetched while rendering; said before any library reads it.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

_EXIT_LOAD_FAILED = 1
_EXIT_FINISHER_DIED = 3

_OOM_SCORE_MAX = 1000
# How soon a clip that waits to be finished hears of its cancel.
_LOOK_SECONDS = 0.1


class Finisher:
    """The second thread. It has one clip at a time: who comes meanwhile waits, and begins no third."""

    def __init__(self) -> None:
        self._free = threading.Semaphore()
        self._handed_over: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def start(self) -> None:
        threading.Thread(target=self._work, name="finisher", daemon=True).start()

    def wait_until_free(self, watcher: JobWatcher) -> None:
        """Until the last clip is finished. Raises ``RenderCanceled``."""
        while not self._free.acquire(timeout=_LOOK_SECONDS):
            stop_if_canceled(watcher)

    def take(self, finish: Callable[[], None]) -> None:
        """To be called once after each ``wait_until_free``; does not wait."""
        self._handed_over.put(finish)

    def _work(self) -> None:
        try:
            while True:
                self._handed_over.get()()  # without a name, which would hold its latents on
                self._free.release()
        finally:
            # What no render's edge has caught ends the process, as it would in the main thread.
            complain("the thread that finishes clips has ended")
            os._exit(_EXIT_FINISHER_DIED)


@dataclass(frozen=True)
class _House:
    """Everything that a render needs, once the model is loaded."""

    model: LoadedModel
    studio: Studio
    finisher: Finisher
    outbox: Outbox
    traces: Traces

    def render(self, command: protocol.Render, watcher: JobWatcher) -> None:
        """The first half; return when the next video may be begun."""

        def finish() -> None:
            with _told_how_it_ends(command, self.outbox, spans):
                rendered = begun.finish()
                spans.end()
                self.outbox.send(rendered)

        spans = self._spans_of(command)
        with _told_how_it_ends(command, self.outbox, spans):
            begun = begin(command, self.model, self.studio, watcher, spans=spans)
            self.finisher.wait_until_free(watcher)
            self.outbox.send(protocol.Denoised(job_id=command.job_id))
            self.finisher.take(finish)

    def render_aside(self, command: protocol.Render, watcher: JobWatcher) -> None:
        """Where nothing is computed here, nobody waits for anybody."""

        def render() -> None:
            spans = self._spans_of(command)
            with _told_how_it_ends(command, self.outbox, spans):
                begun = begin(command, self.model, self.studio, watcher, spans=spans)
                rendered = begun.finish()
                spans.end()
                self.outbox.send(rendered)

        self.outbox.send(protocol.Denoised(job_id=command.job_id))
        threading.Thread(target=render, name=f"render {command.job_id}", daemon=True).start()

    def _spans_of(self, command: protocol.Render) -> RenderSpans:
        return RenderSpans(self.traces, command.traceparent, {"promptreel.job_id": command.job_id})


def main() -> int:
    """Load once, then render until the supervisor closes the channel."""
    inbox, outbox = take_channel()
    # A Ctrl-C reaches the whole process group: what it means is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The kernel ends the process even while a library computes for seconds.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _offer_to_be_killed_first()
    os.environ.update(_OFFLINE)
    inbox.start()
    finisher = Finisher()
    finisher.start()
    house: _House | None = None
    while True:
        match inbox.next():
            case protocol.Load() as command:
                model = _load(command, outbox)
                if model is None:
                    return _EXIT_LOAD_FAILED
                traces = traces_of(
                    command.telemetry, service="render", project=command.trace_project
                )
                house = _House(model, Studio(command), finisher, outbox, traces)
            case protocol.Render() as command if house is not None:
                watcher = JobWatcher(command.job_id, inbox, outbox)
                if house.model.abilities.needs_device:
                    house.render(command, watcher)
                else:
                    house.render_aside(command, watcher)
            case _:
                complain("the supervisor ordered a render before it had a model loaded")
                return EXIT_PROTOCOL


def _offer_to_be_killed_first() -> None:
    """When the machine's memory is used up, the kernel is to take the render, not the worker."""
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_MAX))


def _load(command: protocol.Load, outbox: Outbox) -> LoadedModel | None:
    """The model, announced by ``Ready``; or None, and ``LoadFailed`` is sent."""
    started = time.monotonic()
    warnings: list[str] = []
    try:
        model = find_model(command.model)
        loaded = find_backend(model.backend).load(model, command, warn=warnings.append)
    except PromptreelError as error:
        complain(f"{command.model} in {command.model_dir}: {error.message}")
        outbox.send(protocol.LoadFailed(message=error.message))
        return None
    except Exception:  # noqa: BLE001 - the process's edge: whatever it is, the supervisor is told
        traceback.print_exc()
        message = "The model could not be loaded. The worker's own log says why."
        outbox.send(protocol.LoadFailed(message=message))
        return None
    seconds = round(time.monotonic() - started, 3)
    outbox.send(
        protocol.Ready(device=loaded.device, load_seconds=seconds, warnings=tuple(warnings))
    )
    return loaded


@contextmanager
def _told_how_it_ends(
    command: protocol.Render, outbox: Outbox, spans: RenderSpans
) -> Iterator[None]:
    """Whatever goes wrong in one half of a render is the end of that render, and of nothing else."""
    try:
        yield
    except RenderCanceled:
        spans.end("canceled")
        outbox.send(protocol.RenderCanceled(job_id=command.job_id))
    except PromptreelError as error:
        spans.end(error.code)
        outbox.send(_failed(command, error))
    except Exception as error:  # noqa: BLE001 - the process's edge: the next render must find it alive
        _print_without_prompt(error, command)
        spans.end(RenderCrashed.code)
        what = "ran out of memory" if _is_out_of_memory(error) else "failed unexpectedly"
        outbox.send(_failed(command, RenderCrashed(f"The render {what}.")))


def _is_out_of_memory(error: BaseException) -> bool:
    """Python's own, torch's for a GPU by its name, torch's for the machine by its words."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names.isdisjoint({"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _failed(command: protocol.Render, error: PromptreelError) -> protocol.RenderFailed:
    return protocol.RenderFailed(
        job_id=command.job_id, code=error.code, message=error.message, retry=error.retry
    )


def _print_without_prompt(error: Exception, command: protocol.Render) -> None:
    """Libraries like to quote their arguments."""
    text = "".join(traceback.format_exception(error))
    for secret in (command.prompt, command.negative_prompt):
        if secret:
            text = text.replace(secret, "[prompt]")
    complain(text)


if __name__ == "__main__":
    sys.exit(main())
