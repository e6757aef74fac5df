"""What Promptreel says about itself: structured logs, metrics, trace context.

One log line is one JSON object with ``severity`` and ``message``, which Cloud Logging reads as they
are. No line holds a token, a signed link's query or a prompt: prompts are logged as a keyed hash.
"""

import hashlib
import hmac
import logging
import re
import secrets
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from structlog.typing import EventDict, Processor

from shared.settings import LogFormat

# What must never be read in a log, whoever wrote the line.
_SECRETS = (
    (re.compile(r"(?i)\b(bearer)\s+[^\s\"']+"), r"\1 [redacted]"),
    (re.compile(r"\bpr_[0-9a-z]+_[0-9A-Za-z_-]+"), "pr_[redacted]"),
    (
        re.compile(r"(?i)([?&](?:[^=&\s]*(?:signature|token|credential|key)))=[^&\s\"']+"),
        r"\1=[redacted]",
    ),
    # As a repr or as JSON, also quoted once more: what an exception's text may quote of a request.
    (
        re.compile(
            r"(?i)\b((?:negative_)?prompt\\*[\"']?\s*[=:]\s*)"
            r"\\*(?:\"(?:[^\"\\\n]|\\+.)*\"?|'(?:[^'\\\n]|\\+.)*'?)"
        ),
        r"\1[redacted]",
    ),
    # As pydantic quotes what it refuses.
    (re.compile(r"(\binput_value=).*?(?=, input_type=)"), r"\1[redacted]"),
)
_SECRET_FIELDS = frozenset({"prompt", "negative_prompt", "authorization", "token", "key"})

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def configure_logging(log_format: LogFormat, *, service: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process, ours or a library's, to stderr in one format."""

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
        last += [_as_cloud_logging_reads_it, structlog.processors.JSONRenderer()]
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


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401 - structlog's processor type
    """Take secrets and prompts out of a log line."""
    for name, value in event.items():
        if not name.startswith("_"):  # structlog's own notes, never printed
            event[name] = _redacted(name, value)
    return event


def _redacted(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever is logged
    if name.lower() in _SECRET_FIELDS:
        return "[redacted]"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(name, inner) for inner in value]
    return redact_text(repr(value))


def redact_text(text: str) -> str:
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def hash_prompt(key: bytes, prompt: str) -> str:
    """A keyed hash of a prompt: equal prompts look equal in the logs of one installation only."""
    return hmac.new(key, b"prompt\n" + prompt.encode(), hashlib.sha256).hexdigest()[:16]


def continue_trace(traceparent: str | None) -> str:
    """The W3C trace context of this piece of work: the caller's trace, else a new one."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    trace_id = match.group(1) if match else secrets.token_hex(16)
    return f"00-{trace_id}-{secrets.token_hex(8)}-01"


def trace_id(traceparent: str | None) -> str | None:
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match.group(1) if match else None


def _as_cloud_logging_reads_it(
    _logger: Any,  # noqa: ANN401 - structlog's processor type
    _method: str,
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    event["severity"] = str(event.pop("level", "info")).upper()
    event["message"] = event.pop("event", "")
    return event


_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300)


class Metrics:
    """The Prometheus metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.http_requests = Counter(
            "promptreel_http_requests",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.http_seconds = Histogram(
            "promptreel_http_request_seconds",
            "Time to answer an HTTP request.",
            ["method", "route"],
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self.jobs_submitted = Counter(
            "promptreel_jobs_submitted", "Jobs accepted.", ["model"], registry=self.registry
        )
        self.jobs_refused = Counter(
            "promptreel_jobs_refused",
            "Jobs refused because a limit was reached.",
            ["model", "code"],
            registry=self.registry,
        )
        self.jobs_ended = Counter(
            "promptreel_jobs_ended",
            "Jobs ended, by their last status.",
            ["model", "status"],
            registry=self.registry,
        )
        self.retries = Counter(
            "promptreel_job_retries",
            "Attempts that failed and are tried again.",
            ["model", "code"],
            registry=self.registry,
        )
        self.leases_lost = Counter(
            "promptreel_leases_lost",
            "Renders dropped: the job is another's.",
            registry=self.registry,
        )
        self.queue_seconds = self._seconds("queue", "From acceptance to the first claim.")
        self.generation_seconds = self._seconds("generation", "From the claim to the encoded file.")
        self.upload_seconds = self._seconds("upload", "Storing the artifacts.")
        self.phase_seconds = Histogram(
            "promptreel_phase_seconds",
            "Time a phase of a finished render took.",
            ["phase"],
            buckets=_SECONDS,
            registry=self.registry,
        )

    def add(self, collector: Any) -> None:  # noqa: ANN401 - prometheus_client's own type is private
        """Add figures that are read when they are asked for."""
        self.registry.register(collector)

    def observe_phases(self, seconds: Iterable[tuple[str, float]]) -> None:
        for phase, value in seconds:
            self.phase_seconds.labels(phase).observe(value)

    def _seconds(self, name: str, text: str) -> Histogram:
        return Histogram(
            f"promptreel_{name}_seconds", text, buckets=_SECONDS, registry=self.registry
        )
