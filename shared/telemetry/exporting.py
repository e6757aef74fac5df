"""Traces that are kept: OpenTelemetry's, sent by OTLP to a collector or to Cloud Trace.

To be imported only where traces are on: see ``traces.py``.
"""

import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.config_sections import Telemetry
from shared.errors import ConfigurationError
from shared.telemetry.redaction import redact_text
from shared.telemetry.traces import NO_ATTRIBUTES, Attributes, Span, SpanKind, Traces

_COLLECTOR_URL = "http://127.0.0.1:4318"
_CLOUD_TRACE_URL = "https://telemetry.googleapis.com"
_CLOUD_TRACE_SCOPE = "https://www.googleapis.com/auth/trace.append"
# A process that is told to stop has about this long for its last spans.
_SEND_SECONDS = 2.0
_SEND_EVERY_MILLISECONDS = 1000.0

# What a span may say. Whatever else it is given stays here.
KNOWN_ATTRIBUTES = frozenset(
    {
        "error.type",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "messaging.destination.name",
        "messaging.system",
        "promptreel.attempt",
        "promptreel.files",
        "promptreel.job_id",
        "promptreel.model",
        "promptreel.outcome",
        "promptreel.request_id",
        "promptreel.segment",
        "promptreel.steps",
    }
)
_VALUE_CHARS = 200

_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}
_CONTEXT = TraceContextTextMapPropagator()


def exported_traces(telemetry: Telemetry, *, service: str, project: str | None) -> Traces:
    """Sent in the background, once a second. Raises ``ConfigurationError``."""
    session = None
    if telemetry.traces == "cloud_trace":
        session = _authorized_session()
    base_url = telemetry.otlp_endpoint or (
        _COLLECTOR_URL if telemetry.traces == "otlp" else _CLOUD_TRACE_URL
    )
    exporter = OTLPSpanExporter(
        endpoint=f"{base_url.rstrip('/')}/v1/traces", timeout=_SEND_SECONDS, session=session
    )
    named = {"service.name": f"promptreel-{service}", "service.namespace": "promptreel"}
    if project is not None:
        named["gcp.project_id"] = project
    provider = TracerProvider(
        # By the trace's id alone: every process decides alike, whatever a caller asks for.
        sampler=TraceIdRatioBased(telemetry.sample_ratio),
        resource=Resource.create(named),
    )
    provider.add_span_processor(
        BatchSpanProcessor(exporter, schedule_delay_millis=_SEND_EVERY_MILLISECONDS)
    )
    return ExportedTraces(provider)


class ExportedTraces(Traces):
    """Those of a provider of our own: libraries that trace by themselves do not find it."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("promptreel")

    def begin(
        self,
        name: str,
        *,
        parent: str | None,
        kind: SpanKind = "internal",
        attributes: Attributes = NO_ATTRIBUTES,
        began_at_ns: int | None = None,
    ) -> Span:
        above = _CONTEXT.extract({} if parent is None else {"traceparent": parent})
        span = ExportedSpan(
            self._tracer.start_span(
                name, above, kind=_KINDS[kind], start_time=began_at_ns, record_exception=False
            )
        )
        span.note(attributes)
        return span

    def close(self) -> None:
        self._provider.shutdown()


class ExportedSpan(Span):
    def __init__(self, span: trace.Span) -> None:
        context = span.get_span_context()
        super().__init__(
            f"00-{trace.format_trace_id(context.trace_id)}-"
            f"{trace.format_span_id(context.span_id)}-{context.trace_flags:02x}"
        )
        self._span = span

    def note(self, attributes: Attributes) -> None:
        for name, value in attributes.items():
            if name in KNOWN_ATTRIBUTES and value is not None:
                told = redact_text(value)[:_VALUE_CHARS] if isinstance(value, str) else value
                self._span.set_attribute(name, told)

    def fail(self, code: str) -> None:
        self._span.set_status(trace.StatusCode.ERROR)
        self.note({"error.type": code})

    def end(self) -> None:
        if self._span.is_recording():
            self._span.end()


def _authorized_session() -> requests.Session:
    # Here, not above: a collector on this machine asks nobody who is sending.
    try:
        import google.auth  # noqa: PLC0415
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
        from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415
    except ImportError as error:
        reason = "cloud_trace needs `pip install 'promptreel[gcp]'`"
        raise ConfigurationError(None, [("telemetry.traces", reason)]) from error
    try:
        credentials, _ = google.auth.default(scopes=[_CLOUD_TRACE_SCOPE])
    except GoogleAuthError as error:
        reason = (
            f"cloud_trace finds no usable Google credentials ({type(error).__name__}); run on Google "
            "Cloud, or `gcloud auth application-default login`"
        )
        raise ConfigurationError(None, [("telemetry.traces", reason)]) from error
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]  # it has no annotations
