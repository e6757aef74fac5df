"""What travels in a queue message: a job id and a trace context, nothing else.

Losing or repeating a message never loses or repeats a result: the job store is the truth.
"""

import json
from dataclasses import dataclass

from shared.errors import UnreadableMessage


@dataclass(frozen=True, kw_only=True)
class Message:
    job_id: str
    traceparent: str | None = None  # W3C Trace Context


def encode(message: Message) -> bytes:
    body = {"job_id": message.job_id}
    if message.traceparent is not None:
        body["traceparent"] = message.traceparent
    return json.dumps(body).encode()


def decode(data: bytes) -> Message:
    """Raises ``UnreadableMessage``; fields a newer version added are ignored."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage("the message is not JSON") from error
    if not isinstance(body, dict) or not isinstance(body.get("job_id"), str):
        raise UnreadableMessage("the message names no job_id")
    traceparent = body.get("traceparent")
    return Message(
        job_id=body["job_id"], traceparent=traceparent if isinstance(traceparent, str) else None
    )
