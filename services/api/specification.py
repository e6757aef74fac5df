"""The OpenAPI page: what flask-openapi3 gathers from the routes, completed.

What is added is found by status, by schema or by path, so that a new route has it, too. It is written when
it is first asked for: that takes longer than all the rest of an API's start.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from http import HTTPStatus
from typing import Any, TypeAlias

import yaml
from flask import Flask
from flask_openapi3.openapi import OpenAPI
from flask_openapi3.types import ResponseDict

from services.api.example_replies import add_examples
from services.api.offers import (
    PICTURE_TYPES,
    begins_with_pictures,
    fields_taken,
    parameters_taken,
    rules_between_fields,
)
from shared.config import Config
from shared.schemas import ErrorReply, JobAccepted, Reply

try:
    from yaml import CSafeDumper as SafeDumper
except ImportError:  # PyYAML was built without libyaml: the same text, eight times slower
    from yaml import SafeDumper  # type: ignore[assignment]

Document: TypeAlias = dict[str, Any]

_EXTENSION = "specification"

# Fetches a video's file by the id of its job, whatever surface that came through.
_BY_ANY_ID = "output"
_JOBS = "/v1/jobs"
_JSON = "application/json"
_FORM = "multipart/form-data"
_STARTING_PICTURE = "input_reference"

# What a reply of a status always has.
_HEADERS: Mapping[str, tuple[str, str]] = {
    "202": ("Location", "Where to ask how it is getting on."),
    "302": ("Location", "A signed link, which needs no key."),
    "307": ("Location", "A signed link, which needs no key."),
    "401": ("WWW-Authenticate", "`Bearer`"),
    "429": ("Retry-After", "Seconds after which there should be room."),
    "503": ("Retry-After", "Seconds."),
}


def refusals(*statuses: int, shape: type[Reply] = ErrorReply) -> ResponseDict:
    """The errors an operation may answer with, all of one shape; a 500 is always possible."""
    return dict.fromkeys((*statuses, 500), shape)


def add_specification(app: OpenAPI, config: Config) -> None:
    """Of the routes that the app has by the time that ``specification_of`` is asked."""
    app.extensions[_EXTENSION] = cache(lambda: _written(app, config))


def specification_of(app: Flask) -> str:
    """The whole specification as YAML."""
    text: str = app.extensions[_EXTENSION]()
    return text


def _written(app: OpenAPI, config: Config) -> str:
    document = _whole_numbers(app.api_doc)
    schemas = document["components"]["schemas"]
    for path, operation in operations_of(document):
        for parameter in operation.get("parameters", []):
            _say_that_text_is_never_null(parameter["schema"])
            parameter["schema"].update(parameters_taken(config).get(parameter["name"], {}))
        for media_type, media in _bodies(operation):
            schema = schemas.get(_name_of(media), media["schema"])
            _tell_what_is_taken(schema, config, is_form=media_type == _FORM)
            if media_type == _FORM:
                _tell_of_files(media, schema)
        if "requestBody" in operation:
            _add_refusals(operation["responses"], "400", HTTPStatus.REQUEST_TIMEOUT)
        if operation.get("security"):
            # For what the key is not good for, or for asking too often.
            _add_refusals(
                operation["responses"], "401", HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS
            )
        for status, response in operation["responses"].items():
            _add_header(response, status)
        add_examples(operation, path)
    _add_links(document)
    # Aliases would be legal YAML, but not every reader of specifications follows them.
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)


def operations_of(document: Document) -> Iterator[tuple[str, Document]]:
    """Each with its path."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _add_refusals(responses: dict[str, Any], like: str, *statuses: HTTPStatus) -> None:
    """Of the shape that another refusal has there."""
    for status in statuses:
        alike = responses[like if like in responses else "500"]
        told = {"description": status.phrase, "content": deepcopy(alike["content"])}
        responses.setdefault(str(status.value), told)


def _bodies(operation: Document) -> Iterator[tuple[str, Document]]:
    yield from operation.get("requestBody", {}).get("content", {}).items()


def _name_of(media: Document) -> str:
    name: str = media["schema"].get("$ref", "").rpartition("/")[2]
    return name


def _say_that_text_is_never_null(schema: Document) -> None:
    """Where everything is text, what may be left out may not be null."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        schema.update(kinds[0])
    elif kinds:
        schema["anyOf"] = kinds
    if schema.get("default", ...) is None:
        del schema["default"]


def _tell_what_is_taken(schema: Document, config: Config, *, is_form: bool) -> None:
    """In place of the types that it has by its model, what this installation takes."""
    name = schema["title"]
    for field, taken in fields_taken(config, in_form=is_form).get(name, {}).items():
        told = schema["properties"][field]
        if taken is None:
            del schema["properties"][field]
        elif {"type": "null"} in told.pop("anyOf", []) and not is_form:
            told["anyOf"] = [*taken.get("anyOf", [taken]), {"type": "null"}]
        else:
            told.update(taken)
    if is_form:
        for told in schema["properties"].values():
            _say_that_text_is_never_null(told)
        if not begins_with_pictures(config):
            schema["properties"].pop(_STARTING_PICTURE, None)
    if rules := rules_between_fields(config, in_form=is_form).get(name):
        schema["allOf"] = rules


def _tell_of_files(media: Document, schema: Document) -> None:
    files = [name for name, told in schema["properties"].items() if told.get("format") == "binary"]
    media["encoding"] = {name: {"contentType": PICTURE_TYPES} for name in files}


def _add_header(response: Document, status: str) -> None:
    if status in _HEADERS:
        name, description = _HEADERS[status]
        header = {"description": description, "required": True, "schema": {"type": "string"}}
        response.setdefault("headers", {})[name] = header


def _add_links(document: Document) -> None:
    """From what was created to what can be done with it: the paths that go on with its id."""
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        responses = methods.get("post", {"responses": {}})["responses"]
        for status, response in responses.items():
            media = response.get("content", {}).get(_JSON, {"schema": {}})
            name = _name_of(media)
            if status.startswith("2") and "id" in schemas.get(name, {}).get("properties", {}):
                place = _JOBS if name == JobAccepted.__name__ else path.partition("/{")[0]
                response["links"] = dict(_links_below(place, document))


def _links_below(place: str, document: Document) -> Iterator[tuple[str, Document]]:
    makes_videos = place.startswith("/v1/")
    for path, operation in operations_of(document):
        name, parameter = operation["operationId"], path.partition("{")[2].partition("}")[0]
        if path.startswith(f"{place}/{{") or (makes_videos and name == _BY_ANY_ID):
            yield name, {"operationId": name, "parameters": {parameter: "$response.body#/id"}}


def _whole_numbers(part: Any) -> Any:  # noqa: ANN401 - any part of the document
    """Flask-openapi3 tells of a minimum of 1 as 1.0, whatever it is a minimum of."""
    match part:
        case dict():
            return {name: _whole_numbers(value) for name, value in part.items()}
        case list():
            return [_whole_numbers(value) for value in part]
        case float() if part.is_integer():
            return int(part)
        case _:
            return part


class _PlainDumper(SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's signature
        return True
