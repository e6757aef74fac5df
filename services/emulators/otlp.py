"""A collector of traces on this machine, for tests: OTLP over HTTP, read as protobuf."""

import gzip
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask import Flask, Response, request
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from services.emulators.serving import serving

_PROTOBUF = "application/x-protobuf"
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class CollectedSpan:
    """One span, as it came."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    kind: int
    began_at_ns: int
    ended_at_ns: int
    failed: bool
    attributes: Mapping[str, object]
    resource: Mapping[str, object]
    text: str = field(repr=False)  # everything that was sent of it, in protobuf's own text form


class Collector:
    """What has been sent so far."""

    def __init__(self) -> None:
        self.url = ""
        self.authorizations: list[str | None] = []  # one a request
        self._lock = threading.Lock()
        self._spans: list[CollectedSpan] = []

    @property
    def spans(self) -> Sequence[CollectedSpan]:
        with self._lock:
            return (*self._spans,)

    def trace(self, trace_id: str) -> Mapping[str, CollectedSpan]:
        """The newest span of each name in this trace."""
        return {span.name: span for span in self.spans if span.trace_id == trace_id}

    def wait_for(
        self, trace_id: str, *names: str, seconds: float = 20
    ) -> Mapping[str, CollectedSpan]:
        """The trace once it has spans of these names. Raises ``TimeoutError``."""
        deadline = time.monotonic() + seconds
        while not set(names) <= (found := self.trace(trace_id)).keys():
            if time.monotonic() > deadline:
                raise TimeoutError(f"of {names} there are only {sorted(found)}")
            time.sleep(_POLL_SECONDS)
        return found

    def take(self, sent: ExportTraceServiceRequest) -> None:
        for of_resource in sent.resource_spans:
            resource = _plain(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    attributes = _plain(span.attributes)
                    collected = CollectedSpan(
                        service=str(resource.get("service.name")),
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex() or None,
                        kind=span.kind,
                        began_at_ns=span.start_time_unix_nano,
                        ended_at_ns=span.end_time_unix_nano,
                        failed=span.status.code == span.status.STATUS_CODE_ERROR,
                        attributes=attributes,
                        resource=resource,
                        text=f"{of_resource.resource}{of_scope.scope}{span}",
                    )
                    with self._lock:
                        self._spans.append(collected)


@contextmanager
def otlp_collector() -> Iterator[Collector]:
    """Listens at a free port of this machine."""
    collector = Collector()
    app = Flask(__name__)

    @app.post("/v1/traces")
    def take() -> Response:
        body = request.get_data()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        collector.authorizations.append(request.headers.get("Authorization"))
        collector.take(ExportTraceServiceRequest.FromString(body))
        return Response(ExportTraceServiceResponse().SerializeToString(), content_type=_PROTOBUF)

    with serving(app) as collector.url:
        yield collector


def _plain(attributes: Sequence[KeyValue]) -> dict[str, object]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
