"""Structured logs: one line is one JSON object, which Cloud Logging reads as it is."""

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from shared.settings import LogFormat
from shared.telemetry.redaction import redact


def configure_logging(
    log_format: LogFormat,
    *,
    service: str,
    project: str | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send every log line of this process, ours or a library's, to stderr in one format.

    With a project, Cloud Logging shows each line beside its trace.
    """

    def name_service(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's processor type
        # Not a context variable: those are a thread's own, and servers start threads.
        event["service"] = service
        return event

    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name_service,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    if log_format == "json":
        cloud = partial(_as_cloud_logging_reads_it, project)
        render: list[Processor] = [cloud, structlog.processors.JSONRenderer()]
    else:
        render = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # it is text by then
            )
        ]
    stream = stream or sys.stderr
    # Ours do not take the way through `logging`: it makes two records of each line.
    structlog.configure(
        processors=[*before, *render],
        logger_factory=lambda *_name: _Lines(stream),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=[strip, *render])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # They tell of every request at INFO, with its whole URL.
    for chatty in ("httpx", "httpcore", "werkzeug", "_granian"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _Lines:
    """Where our rendered lines are written, each by one call: those of several threads do not mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def info(self, line: str) -> None:
        # As in `logging`: that nobody can read a line is no reason for what it tells of to fail.
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    warning = error = critical = info


def _as_cloud_logging_reads_it(
    project: str | None,
    _logger: Any,  # noqa: ANN401 - structlog's processor type
    _method: str,
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    event["severity"] = str(event.pop("level", "info")).upper()
    event["message"] = event.pop("event", "")
    if project is not None and event.get("trace"):
        event["logging.googleapis.com/trace"] = f"projects/{project}/traces/{event['trace']}"
    return event
