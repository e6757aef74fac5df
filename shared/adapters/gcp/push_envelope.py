"""What a Pub/Sub push or an Eventarc trigger sends: JSON around one message, in three forms.

Pub/Sub's own body, ``{"message": {…}, "subscription": …, "deliveryAttempt": …}``; the same as the
data of a CloudEvent in binary mode (``ce-`` headers); and inside one in structured mode
(``application/cloudevents+json``).
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.adapters.gcp.pubsub_message import read_message
from shared.errors import UnreadableMessage
from shared.messages import Message

_STRUCTURED = "application/cloudevents+json"
_MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """One message as it was pushed."""

    message: Message
    message_id: str
    subscription: str | None
    delivery_attempt: int | None  # None: the subscription has no dead letters, so nobody counts


def parse_push(headers: Mapping[str, str], body: bytes) -> Pushed:
    """Raises ``UnreadableMessage`` that says what is wrong."""
    envelope = _envelope({name.lower(): value for name, value in headers.items()}, body)
    message = _field(envelope, "message", dict)
    if message is None:
        raise UnreadableMessage("the push has no message")
    # Push bodies have both spellings, CloudEvents the first only.
    message_id = _field(message, "messageId", str) or _field(message, "message_id", str)
    if not message_id:
        raise UnreadableMessage("the push's message has no messageId")
    return Pushed(
        message=read_message(_data(message), _attributes(message)),
        message_id=message_id,
        subscription=_field(envelope, "subscription", str),
        delivery_attempt=_field(envelope, "deliveryAttempt", int),
    )


def _envelope(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    content = _object(body, "the push's body")
    if headers.get("content-type", "").partition(";")[0].strip().lower() == _STRUCTURED:
        _check_type(content.get("type"))
        if "data_base64" in content:
            return _object(_decoded(content["data_base64"], "data_base64"), "the event's data")
        data: Mapping[str, Any] | None = _field(content, "data", dict)
        if data is None:
            raise UnreadableMessage("the event has no data")
        return data
    if "ce-type" in headers:
        _check_type(headers["ce-type"])
    return content


def _check_type(event_type: object) -> None:
    if event_type != _MESSAGE_PUBLISHED:
        raise UnreadableMessage("the event is not a published Pub/Sub message")


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage(f"{what} is not JSON") from error
    if not isinstance(content, dict):
        raise UnreadableMessage(f"{what} is not a JSON object")
    return content


def _data(message: Mapping[str, Any]) -> bytes:
    data = message.get("data")
    return b"" if data is None else _decoded(data, "data")


def _decoded(text: object, name: str) -> bytes:
    if not isinstance(text, str):
        raise UnreadableMessage(f"the push's {name} is not text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableMessage(f"the push's {name} is not base64") from error


def _attributes(message: Mapping[str, Any]) -> Mapping[str, str]:
    attributes = _field(message, "attributes", dict) or {}
    if not all(isinstance(value, str) for value in attributes.values()):
        raise UnreadableMessage("an attribute of the push's message is not text")
    return attributes


def _field(content: Mapping[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401 - of that kind
    """A field of JSON, None if it is not there."""
    value = content.get(name)
    # In Python, True is an int; in JSON it is not.
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise UnreadableMessage(f"the push's {name} has the wrong type")
    return value
