"""Structured logs: one line is one JSON object, which Cloud Logging reads as it is."""

import logging
import sys
from collections.abc import MutableMapping
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
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        last += [partial(_as_cloud_logging_reads_it, project), structlog.processors.JSONRenderer()]
    else:
        last.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # it is text by then
            )
        )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=last)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # They tell of every request at INFO, with its whole URL.
    for chatty in ("httpx", "httpcore", "werkzeug", "_granian"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


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
