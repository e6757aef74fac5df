"""The render process's end of the pipes: commands in, events out, for both of its threads."""

import os
import sys
import threading
from collections import deque
from typing import BinaryIO

from pydantic import ValidationError

from services.gpu_worker import protocol

EXIT_PROTOCOL = 2


class Outbox:
    """Events to the supervisor, each a whole line whichever thread sends it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: protocol.Event) -> None:
        line = event.encode()
        try:
            with self._lock:
                self._stream.write(line)
                self._stream.flush()
        except BrokenPipeError:
            os._exit(0)  # as at the end of input: the supervisor is gone


class Inbox:
    """Commands in their order; a cancel overtakes them. Ends the process with the channel."""

    def __init__(self, stream: BinaryIO, outbox: Outbox) -> None:
        self._stream = stream
        self._outbox = outbox
        self._canceled: set[str] = set()
        self._arrived = threading.Condition()
        # Guarded by it.
        self._commands: deque[protocol.Load | protocol.Render] = deque()

    def start(self) -> None:
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next(self) -> protocol.Load | protocol.Render:
        with self._arrived:
            self._arrived.wait_for(lambda: self._commands)
            return self._commands.popleft()

    def is_canceled(self, job_id: str) -> bool:
        return job_id in self._canceled

    def _read(self) -> None:
        for line in self._stream:
            try:
                command = protocol.parse_command(line)
            except ValidationError:
                # What was ordered is unknown, so no answer would be right. The line may hold a
                # prompt: it is not repeated.
                complain("the supervisor sent a line that is no command")
                os._exit(EXIT_PROTOCOL)
            self._take(command)
        # The supervisor is gone, and whoever takes over renders anew: stop in mid-step.
        os._exit(0)

    def _take(self, command: protocol.Command) -> None:
        if isinstance(command, protocol.Cancel):
            self._cancel(command.job_id)
            return
        if isinstance(command, protocol.Render):
            # A cancel that came too late for an earlier attempt does not count for this one.
            self._canceled.discard(command.job_id)
        with self._arrived:
            self._commands.append(command)
            self._arrived.notify()

    def _cancel(self, job_id: str) -> None:
        """One that has not begun is ended here and now: its turn may be far away."""
        with self._arrived:
            waiting = [
                command
                for command in self._commands
                if isinstance(command, protocol.Render) and command.job_id == job_id
            ]
            for command in waiting:
                self._commands.remove(command)
            if not waiting:
                self._canceled.add(job_id)
        if waiting:
            self._outbox.send(protocol.RenderCanceled(job_id=job_id))


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

    def part_made(self, name: str) -> None:
        self._outbox.send(protocol.PartMade(job_id=self._job_id, name=name))

    def cancel_requested(self) -> bool:
        return self._inbox.is_canceled(self._job_id)


def take_channel() -> tuple[Inbox, Outbox]:
    """Move the channel off the standard descriptors, so no library can write or read there."""
    commands, events = os.dup(sys.stdin.fileno()), os.dup(sys.stdout.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    outbox = Outbox(os.fdopen(events, "wb"))
    return Inbox(os.fdopen(commands, "rb"), outbox), outbox


def complain(text: str) -> None:
    print(f"render process: {text}", file=sys.stderr, flush=True)  # noqa: T201 - to the supervisor's log
