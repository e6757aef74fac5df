"""A request body that is JSON, or a multipart form with files: read the same way for every surface."""

from collections.abc import Collection, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

from flask import request
from werkzeug.datastructures import FileStorage

from services.api.context import api
from services.api.errors import InvalidFields
from services.api.images.inputs import check_picture
from shared.errors import MalformedBody, UnsupportedContentType
from shared.submission import StartingPicture

# Fields and files; whoever sends more sends what nobody asked for.
_MOST_PARTS = 16
# Werkzeug counts what it has just read against its limit on fields, and it reads this much of a file at once.
_READ_AT_ONCE_BYTES = 64 * 1024


# As the OpenAPI page shows a file among the fields.
PICTURE = {"type": "string", "format": "binary", "description": "JPEG, PNG or WebP."}


@dataclass(frozen=True)
class Received:
    fields: Mapping[str, Any]
    files: Mapping[str, bytes]  # by the field they came in; one byte longer than allowed at most


def read_body(file_fields: Collection[str]) -> Received:
    """What was sent, not checked but for which fields are files, and that each is there once.

    Raises ``InvalidRequest``.
    """
    match request.mimetype:
        case "multipart/form-data":
            return _form(file_fields)
        case "application/json":
            fields = request.get_json()
            if not isinstance(fields, dict):
                raise MalformedBody('The body must be one JSON object such as {"prompt": "…"}.')
            return Received(fields, {})
        case _:
            raise UnsupportedContentType(
                "Send the body as `Content-Type: application/json`, or with pictures as "
                "`multipart/form-data`."
            )


def starting_picture(name: str, content: bytes) -> StartingPicture:
    """The picture in a file that was received, without metadata. Raises ``InvalidRequest``."""
    limits = api().wiring.config.images
    with api().decoding:
        checked = check_picture(
            content,
            field=name,
            max_bytes=limits.input_max_bytes,
            max_pixels=limits.input_max_pixels,
        )
    return StartingPicture(
        content=checked.content, content_type=checked.content_type, extension=checked.extension
    )


def _form(file_fields: Collection[str]) -> Received:
    request.max_form_parts = _MOST_PARTS
    text_bytes = api().wiring.config.limits.body_max_bytes
    request.max_form_memory_size = max(text_bytes, 2 * _READ_AT_ONCE_BYTES)
    # A part may come without a name: Werkzeug calls it None.
    fields: dict[str | None, list[str]] = dict(request.form.lists())
    files: dict[str | None, list[FileStorage]] = {
        name: list(filter(_was_chosen, sent)) for name, sent in request.files.lists()
    }
    if problems := list(_problems(fields, files, file_fields)):
        raise InvalidFields(problems)
    limit = api().wiring.config.images.input_max_bytes
    # One byte more than allowed, to see that there are more.
    contents = {
        name: sent[0].read(limit + 1) for name, sent in files.items() if sent and name is not None
    }
    return Received(
        {name: values[0] for name, values in fields.items() if name is not None}, contents
    )


def _was_chosen(file: FileStorage) -> bool:
    """A browser sends a part without a name or content for a file that was not chosen."""
    if file.filename:
        return True
    content = file.read(1)
    file.seek(0)
    return bool(content)


def _problems(
    fields: Mapping[str | None, Sized],
    files: Mapping[str | None, Sized],
    file_fields: Collection[str],
) -> Iterator[tuple[str, str]]:
    for name, values in [*fields.items(), *files.items()]:
        if name is None:
            yield "", "A part of the form has no name; give it one"
        elif name in file_fields and name in fields:
            yield name, "must be a file: give its part a file name"
        elif name in files and name not in file_fields:
            yield name[:100], "is not a file of this request; remove it"
        elif len(values) > 1:
            yield name[:100], "is given twice; give it once"
