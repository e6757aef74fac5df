"""The OpenAPI page: what flask-openapi3 gathers from the routes, with examples put in."""

from typing import Any

import yaml
from flask_openapi3.openapi import OpenAPI
from flask_openapi3.types import ResponseDict

from services.api.examples import ERROR_EXAMPLES, EXAMPLES
from shared.schemas import ErrorReply

_REQUEST_ID = "4c1f9d5e8b7a4d3f9e2c6b1a0d8f7e55"


def refusals(*statuses: int) -> ResponseDict:
    """The errors an operation may answer with, all of one shape; a 500 is always possible."""
    return dict.fromkeys((*statuses, 500), ErrorReply)


def specification(app: OpenAPI) -> str:
    """The whole specification as YAML."""
    document = app.api_doc
    for path in document["paths"].values():
        for operation in path.values():
            _add_examples(operation)
    # Aliases would be legal YAML, but not every reader of specifications follows them.
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)


def _add_examples(operation: dict[str, Any]) -> None:
    bodies = operation.get("requestBody", {}).get("content", {})
    for media in bodies.values():
        _add_example(media, "")
    for status, response in operation["responses"].items():
        for media in response.get("content", {}).values():
            _add_example(media, status)


def _add_example(media: dict[str, Any], status: str) -> None:
    name = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
    if name == ErrorReply.__name__:
        code, message = ERROR_EXAMPLES[status]
        detail = {"code": code, "message": message, "request_id": _REQUEST_ID}
        media["example"] = {"error": detail}
    elif name in EXAMPLES:
        media["example"] = dict(EXAMPLES[name])


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's signature
        return True
