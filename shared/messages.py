"""What travels in a queue message: a job id and a trace context, nothing else.

Losing or repeating a message never loses or repeats a result: the job store is the truth.
"""

import json
import re
from dataclasses import dataclass

from shared.errors import UnreadableMessage

# What every job store can look up; anything else would fail there at every delivery.
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


# Where couriers hear of jobs that have ended; render topics are the model catalog's.
TOPIC_WEBHOOKS = "webhooks"


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
    job_id = body.get("job_id") if isinstance(body, dict) else None
    if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
        raise UnreadableMessage("the message names no job_id")
    traceparent = body.get("traceparent")
    return Message(job_id=job_id, traceparent=traceparent if isinstance(traceparent, str) else None)
