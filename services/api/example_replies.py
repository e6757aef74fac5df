"""Puts an example beside each body and each reply of an operation."""

from collections.abc import Mapping
from typing import Any

from services.api.error_examples import (
    CALLS_WITHOUT_A_BODY,
    ERROR_EXAMPLES,
    IMAGE_ERROR_EXAMPLES,
    OPERATION_ERROR_EXAMPLES,
    REQUEST_ID,
)
from services.api.examples import EXAMPLES, EXAMPLES_OF_TROUBLE
from services.api.images.words import SURFACE, code_of
from services.api.videos.schemas import VideoErrorReply
from services.api.videos.words import as_told
from shared.schemas import ErrorReply


def add_examples(operation: dict[str, Any], path: str) -> None:
    errors = _errors_of(operation, path)
    for media in operation.get("requestBody", {}).get("content", {}).values():
        _add_example(media, "", errors)
    for status, response in operation["responses"].items():
        for media in response.get("content", {}).values():
            _add_example(media, status, errors)


def _errors_of(operation: Mapping[str, Any], path: str) -> Mapping[str, tuple[str, str]]:
    """By status: a code and a message. Where pictures are ordered, in the words of that surface."""
    errors: dict[str, tuple[str, str]] = {**ERROR_EXAMPLES}
    if "requestBody" not in operation:
        errors |= CALLS_WITHOUT_A_BODY
    errors |= OPERATION_ERROR_EXAMPLES.get(operation["operationId"], {})
    if not path.startswith(SURFACE):
        return errors
    in_words = {
        status: (code_of(code, requesters_fault=status < "500"), message)
        for status, (code, message) in errors.items()
    }
    return {**in_words, **IMAGE_ERROR_EXAMPLES}


def _add_example(media: dict[str, Any], status: str, errors: Mapping[str, tuple[str, str]]) -> None:
    schema = media.get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2] or schema.get("title")
    if name == ErrorReply.__name__:
        code, message = errors[status]
        detail = {"code": code, "message": message, "request_id": REQUEST_ID}
        media["example"] = {"error": detail}
    elif name == VideoErrorReply.__name__:
        code, message = errors[status]
        media["example"] = as_told(int(status), code=code, message=message)
    elif name in EXAMPLES:
        told = EXAMPLES_OF_TROUBLE if status == "503" else EXAMPLES
        media["example"] = dict(told[name])
