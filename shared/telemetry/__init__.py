"""What Promptreel says about itself: structured logs, metrics, traces.

One log line is one JSON object with ``severity`` and ``message``, which Cloud Logging reads as they
are. Nothing of it holds a token, a signed link's query or a prompt: prompts are logged as a keyed hash.
"""

from shared.telemetry.configured_traces import traces_of
from shared.telemetry.logs import configure_logging
from shared.telemetry.metrics import Metrics
from shared.telemetry.redaction import hash_prompt, redact, redact_text
from shared.telemetry.trace_context import continue_trace, new_id, trace_id
from shared.telemetry.traces import Attributes, Span, Traces

__all__ = [
    "Attributes",
    "Metrics",
    "Span",
    "Traces",
    "configure_logging",
    "continue_trace",
    "hash_prompt",
    "new_id",
    "redact",
    "redact_text",
    "trace_id",
    "traces_of",
]
