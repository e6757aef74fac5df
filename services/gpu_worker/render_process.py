"""The render process: holds the model, renders what it is told. Speaks ``protocol`` over pipes.

    python -m services.gpu_worker.render_process

Its standard input and output belong to the supervisor. It ends when the supervisor does.
"""

import os
import queue
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from services.gpu_worker import protocol
from services.gpu_worker.backends import find_backend
from services.gpu_worker.backends.backend import LoadedModel
from services.gpu_worker.pipeline.run import run
from services.gpu_worker.pipeline.watcher import RenderCanceled
from shared.catalog import find_model
from shared.errors import PromptreelError, RenderCrashed

# Nothing is ever fetched while rendering; said before any library reads it.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

_EXIT_LOAD_FAILED = 1
_EXIT_PROTOCOL = 2

_OOM_SCORE_MAX = 1000


class Inbox:
    """Commands in their order; a cancel overtakes them. Ends the process with the channel."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._commands: queue.SimpleQueue[protocol.Load | protocol.Render] = queue.SimpleQueue()
        self._canceled: set[str] = set()

    def start(self) -> None:
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next(self) -> protocol.Load | protocol.Render:
        return self._commands.get()

    def is_canceled(self, job_id: str) -> bool:
        return job_id in self._canceled

    def _read(self) -> None:
        for line in self._stream:
            try:
                command = protocol.parse_command(line)
            except ValidationError:
                # What was ordered is unknown, so no answer would be right. The line may hold a
                # prompt: it is not repeated.
                _complain("the supervisor sent a line that is no command")
                os._exit(_EXIT_PROTOCOL)
            self._take(command)
        # The supervisor is gone, and whoever takes over renders anew: stop in mid-step.
        os._exit(0)

    def _take(self, command: protocol.Command) -> None:
        match command:
            case protocol.Cancel():
                self._canceled.add(command.job_id)
            case protocol.Render():
                # A cancel that came too late for an earlier attempt does not count for this one.
                self._canceled.discard(command.job_id)
                self._commands.put(command)
            case protocol.Load():
                self._commands.put(command)


class Outbox:
    """Events to the supervisor. Used by the main thread alone."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def send(self, event: protocol.Event) -> None:
        try:
            self._stream.write(event.encode())
            self._stream.flush()
        except BrokenPipeError:
            os._exit(0)  # as at the end of input: the supervisor is gone


class JobWatcher:
    """The supervisor's eyes on one render."""

    def __init__(self, job_id: str, inbox: Inbox, outbox: Outbox) -> None:
        self._job_id = job_id
        self._inbox = inbox
        self._outbox = outbox

    def progress(
        self, phase: str, fraction: float, *, step: int | None = None, steps: int | None = None
    ) -> None:
        self._outbox.send(
            protocol.Progress(
                job_id=self._job_id, phase=phase, fraction=fraction, step=step, steps=steps
            )
        )

    def log(self, text: str) -> None:
        self._outbox.send(protocol.LogLine(job_id=self._job_id, text=text))

    def cancel_requested(self) -> bool:
        return self._inbox.is_canceled(self._job_id)


def main() -> int:
    """Load once, then render until the supervisor closes the channel."""
    inbox, outbox = _take_channel()
    # A Ctrl-C reaches the whole process group: what it means is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The kernel ends the process even while a library computes for seconds.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _offer_to_be_killed_first()
    os.environ.update(_OFFLINE)
    inbox.start()
    model: LoadedModel | None = None
    while True:
        match inbox.next():
            case protocol.Load() as command:
                model = _load(command, outbox)
                if model is None:
                    return _EXIT_LOAD_FAILED
            case protocol.Render() as command if model is not None:
                outbox.send(_render(command, model, JobWatcher(command.job_id, inbox, outbox)))
            case _:
                _complain("the supervisor ordered a render before it had a model loaded")
                return _EXIT_PROTOCOL


def _offer_to_be_killed_first() -> None:
    """When the machine's memory is used up, the kernel is to take the render, not the worker."""
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_MAX))


def _take_channel() -> tuple[Inbox, Outbox]:
    """Move the channel off the standard descriptors, so no library can write or read there."""
    commands, events = os.dup(sys.stdin.fileno()), os.dup(sys.stdout.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return Inbox(os.fdopen(commands, "rb")), Outbox(os.fdopen(events, "wb"))


def _load(command: protocol.Load, outbox: Outbox) -> LoadedModel | None:
    """The model, announced by ``Ready``; or None, and ``LoadFailed`` is sent."""
    started = time.monotonic()
    warnings: list[str] = []
    try:
        model = find_model(command.model)
        loaded = find_backend(model.backend).load(model, command, warn=warnings.append)
    except PromptreelError as error:
        _complain(f"{command.model} in {command.model_dir}: {error.message}")
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


def _render(command: protocol.Render, model: LoadedModel, watcher: JobWatcher) -> protocol.Event:
    """The event that ends the render, whatever happens in it."""
    try:
        return run(command, model, watcher)
    except RenderCanceled:
        return protocol.RenderCanceled(job_id=command.job_id)
    except PromptreelError as error:
        return _failed(command, error)
    except Exception as error:  # noqa: BLE001 - the process's edge: the next render must find it alive
        _print_without_prompt(error, command)
        what = "ran out of memory" if _is_out_of_memory(error) else "failed unexpectedly"
        return _failed(command, RenderCrashed(f"The render {what}."))


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
    _complain(text)


def _complain(text: str) -> None:
    print(f"render process: {text}", file=sys.stderr, flush=True)  # noqa: T201 - to the supervisor's log


if __name__ == "__main__":
    sys.exit(main())
