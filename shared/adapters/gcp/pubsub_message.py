"""A message as Pub/Sub carries it: bytes, and attributes beside them."""

import json
from collections.abc import Mapping

from shared.messages import Message, decode

_JOB_ID = "job_id"
# The form is W3C's in both; the second is where Google's own clients put it.
_TRACEPARENTS = ("traceparent", "googclient_traceparent")


def attributes_of(message: Message) -> dict[str, str]:
    """The trace, where tools see it that do not read the data."""
    return {} if message.traceparent is None else {_TRACEPARENTS[0]: message.traceparent}


def read_message(data: bytes, attributes: Mapping[str, str]) -> Message:
    """The message in the data; if there is none, the one in the attributes.

    Raises ``UnreadableMessage``.
    """
    trace = next((attributes[name] for name in _TRACEPARENTS if attributes.get(name)), None)
    if not data:
        data = json.dumps({_JOB_ID: attributes.get(_JOB_ID)}).encode()
    message = decode(data)
    return Message(job_id=message.job_id, traceparent=message.traceparent or trace)
