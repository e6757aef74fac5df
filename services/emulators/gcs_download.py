"""An object's bytes as a reply: whole, or the range that was asked for."""

import base64
from urllib.parse import quote

from flask import Request, send_file
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wrappers import Response

from services.emulators.gcs_objects import Objects, StoredObject


def download(objects: Objects, there: StoredObject, request: Request) -> Response:
    reply = send_file(
        objects.content(there).resolve(),
        mimetype=there.attributes.content_type,
        conditional=False,
        etag=base64.b64decode(there.md5).hex(),
    )
    reply.headers["Content-Type"] = there.attributes.content_type
    reply.headers.remove("Content-Disposition")
    if there.attributes.content_disposition is not None:
        reply.headers["Content-Disposition"] = there.attributes.content_disposition
    # What Google says of an object that was uploaded without a word about caches.
    reply.headers["Cache-Control"] = there.attributes.cache_control or "private, max-age=0"
    reply.headers["x-goog-generation"] = str(there.generation)
    reply.headers["x-goog-metageneration"] = str(there.metageneration)
    reply.headers["x-goog-hash"] = f"crc32c={there.crc32c},md5={there.md5}"
    reply.headers["x-goog-stored-content-encoding"] = "identity"
    reply.headers["x-goog-stored-content-length"] = str(there.size_bytes)
    for name, value in there.attributes.custom.items():
        reply.headers[f"x-goog-meta-{name}"] = quote(value, safe=" -_.~:/+=,;@")
    try:
        return reply.make_conditional(request, accept_ranges=True, complete_length=there.size_bytes)
    except RequestedRangeNotSatisfiable:
        reply.close()
        raise
