"""The three ways to upload to the JSON API: media, multipart and resumable."""

import json
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Blueprint, Request, Response, jsonify, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import ClientDisconnected

from services.emulators.gcs_accounts import ServiceAccounts
from services.emulators.gcs_errors import GcsError, as_json, invalid, not_implemented
from services.emulators.gcs_json import as_attributes, as_resource, preconditions, signed_in
from services.emulators.gcs_objects import Attributes, Hashes, Objects, Preconditions, StoredObject

_CHUNK_BYTES = 256 * 1024
# How a client says that it gives up an upload, and how the server says that it did.
_CLIENT_CLOSED_REQUEST = 499
_CHUNK_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_STATUS_RANGE = re.compile(r"bytes \*/(\d+|\*)")
_BOUNDARY = re.compile(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;\s]+))""")


@dataclass(kw_only=True)
class _Session:
    """One resumable upload."""

    bucket: str
    name: str
    attributes: Attributes
    declared: Hashes
    preconditions: Preconditions
    content: Path
    received_bytes: int = 0
    done: StoredObject | None = None
    refused: GcsError | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def uploads(objects: Objects, accounts: ServiceAccounts) -> Blueprint:
    routes = Blueprint("uploads", __name__, url_prefix="/upload/storage/v1/b/<bucket>/o")
    routes.register_error_handler(GcsError, as_json)
    routes.before_request(signed_in(accounts))
    sessions: dict[str, _Session] = {}

    @routes.post("")
    def start(bucket: str) -> Response:
        objects.is_public(bucket)
        match request.args.get("uploadType"):
            case "media":
                return _store_media(objects, bucket)
            case "multipart":
                return _store_multipart(objects, bucket)
            case "resumable":
                upload_id = secrets.token_urlsafe(48)
                sessions[upload_id] = _new_session(objects, bucket)
                url = f"{request.base_url}?uploadType=resumable&upload_id={upload_id}"
                return Response(headers={"Location": url, "X-GUploader-UploadID": upload_id})
            case other:
                raise invalid(f"Invalid upload type: {other}.")

    @routes.put("")
    def go_on(bucket: str) -> Response:
        session = sessions.get(request.args.get("upload_id", ""))
        if session is None or session.bucket != bucket:
            raise GcsError(HTTPStatus.NOT_FOUND, "notFound", "NoSuchUpload", "Unknown upload.")
        with session.lock:
            return _continue(objects, session)

    @routes.delete("")
    def give_up(bucket: str) -> Response:  # noqa: ARG001 - part of every path here
        session = sessions.pop(request.args.get("upload_id", ""), None)
        if session is not None and session.done is None:
            session.content.unlink(missing_ok=True)
        return Response(status=_CLIENT_CLOSED_REQUEST)

    return routes


def _store_media(objects: Objects, bucket: str) -> Response:
    content = objects.new_content()
    content.write_bytes(request.get_data(cache=False))
    there = objects.insert(
        bucket,
        _name(request, {}),
        content,
        attributes=Attributes(content_type=request.content_type or Attributes.content_type),
        declared=declared_hashes(request.headers),
        preconditions=preconditions(request),
    )
    return jsonify(as_resource(there))


def _store_multipart(objects: Objects, bucket: str) -> Response:
    resource, media_type, media = _parts(request)
    content = objects.new_content()
    content.write_bytes(media)
    there = objects.insert(
        bucket,
        _name(request, resource),
        content,
        attributes=as_attributes({"contentType": media_type, **resource}),
        declared=Hashes(md5=resource.get("md5Hash"), crc32c=resource.get("crc32c")),
        preconditions=preconditions(request),
    )
    return jsonify(as_resource(there))


def _new_session(objects: Objects, bucket: str) -> _Session:
    resource: dict[str, Any] = request.get_json(silent=True) or {}
    media_type = request.headers.get("X-Upload-Content-Type", Attributes.content_type)
    session = _Session(
        bucket=bucket,
        name=_name(request, resource),
        attributes=as_attributes({"contentType": media_type, **resource}),
        declared=Hashes(md5=resource.get("md5Hash"), crc32c=resource.get("crc32c")),
        preconditions=preconditions(request),
        content=objects.new_content(),
    )
    # A condition that fails now is told now; it is checked again at the end.
    objects.check(bucket, session.name, session.preconditions)
    session.content.touch()
    return session


def _continue(objects: Objects, session: _Session) -> Response:
    if session.refused is not None:
        raise session.refused
    if session.done is not None:
        return jsonify(as_resource(session.done))
    content_range = request.headers.get("Content-Range", "")
    if status := _STATUS_RANGE.fullmatch(content_range):
        total = status[1]
    elif chunk := _CHUNK_RANGE.fullmatch(content_range):
        first, last, total = int(chunk[1]), int(chunk[2]), chunk[3]
        if request.content_length != last - first + 1:
            raise invalid("The length of the body is not what Content-Range says.")
        if first > session.received_bytes:
            message = (
                f"Invalid request. According to the Content-Range header, the upload offset is "
                f"{first} byte(s), which exceeds already uploaded size of "
                f"{session.received_bytes} byte(s)."
            )
            raise GcsError(HTTPStatus.SERVICE_UNAVAILABLE, "backendError", "Unavailable", message)
        _receive(session, skip_bytes=session.received_bytes - first, final=last + 1 == _int(total))
    else:
        raise not_implemented("A resumable upload without Content-Range")
    if session.received_bytes != _int(total):
        return _resume_incomplete(session)
    return jsonify(as_resource(_complete(objects, session)))


def _complete(objects: Objects, session: _Session) -> StoredObject:
    declared = declared_hashes(request.headers)
    try:
        session.done = objects.insert(
            session.bucket,
            session.name,
            session.content,
            attributes=session.attributes,
            declared=Hashes(
                md5=declared.md5 or session.declared.md5,
                crc32c=declared.crc32c or session.declared.crc32c,
            ),
            preconditions=session.preconditions,
        )
    except GcsError as error:
        session.refused = error
        raise
    return session.done


def _receive(session: _Session, *, skip_bytes: int, final: bool) -> None:
    """Keep what is new of a chunk; bytes that were kept before are sent again after a failure."""
    with session.content.open("r+b") as content:
        content.seek(session.received_bytes)
        try:
            for data in _body(request):
                new = data[skip_bytes:]
                skip_bytes = max(0, skip_bytes - len(data))
                content.write(new)
                session.received_bytes += len(new)
        except ClientDisconnected:
            final = False
            raise
        finally:
            if not final:
                # Of what is not the end, only whole 256 KiB are kept.
                session.received_bytes -= session.received_bytes % _CHUNK_BYTES
                content.truncate(session.received_bytes)


def _resume_incomplete(session: _Session) -> Response:
    reply = Response(status=HTTPStatus.PERMANENT_REDIRECT)
    if session.received_bytes:
        reply.headers["Range"] = f"bytes=0-{session.received_bytes - 1}"
    return reply


def _body(incoming: Request) -> Iterator[bytes]:
    while data := incoming.stream.read(_CHUNK_BYTES):
        yield data


def _parts(incoming: Request) -> tuple[dict[str, Any], str, bytes]:
    """A multipart/related body: what the object is, its media's type, its media."""
    boundary = _BOUNDARY.search(incoming.content_type or "")
    if boundary is None:
        raise invalid("A multipart upload needs a boundary.")
    delimiter = b"--" + next(group for group in boundary.groups() if group).encode()
    _, start, rest = incoming.get_data(cache=False).partition(delimiter + b"\r\n")
    first, middle, second = rest.partition(b"\r\n" + delimiter + b"\r\n")
    media_part, end, _ = second.rpartition(b"\r\n" + delimiter + b"--")
    if not (start and middle and end):
        raise invalid("A multipart upload needs two parts.")
    _, _, resource = first.partition(b"\r\n\r\n")
    head, _, media = media_part.partition(b"\r\n\r\n")
    media_type = re.search(rb"(?i)content-type:\s*([^\r\n]+)", head)
    try:
        described: dict[str, Any] = json.loads(resource)
    except ValueError:
        raise invalid("The first part of a multipart upload must be JSON.") from None
    return described, media_type[1].decode() if media_type else Attributes.content_type, media


def declared_hashes(headers: Headers) -> Hashes:
    """What ``X-Goog-Hash: crc32c=…,md5=…`` and ``Content-MD5`` say of the bytes that were sent."""
    given = dict(
        part.strip().split("=", 1) for part in headers.get("X-Goog-Hash", "").split(",") if part
    )
    return Hashes(md5=given.get("md5") or headers.get("Content-MD5"), crc32c=given.get("crc32c"))


def _name(incoming: Request, resource: Mapping[str, Any]) -> str:
    name = incoming.args.get("name") or resource.get("name")
    if not name:
        raise invalid("Required", code="MissingName")
    return str(name)


def _int(total: str) -> int | None:
    return None if total == "*" else int(total)
