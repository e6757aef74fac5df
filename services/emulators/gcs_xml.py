"""The paths that links lead to, ``/{bucket}/{object}``: signed ones, and those of public buckets."""

from flask import Blueprint, Response, request
from werkzeug.wrappers import Response as AnyResponse

from services.emulators.gcs_accounts import ServiceAccounts
from services.emulators.gcs_clock import Clock
from services.emulators.gcs_download import download
from services.emulators.gcs_errors import GcsError, as_xml, forbidden
from services.emulators.gcs_objects import Attributes, Objects, Preconditions
from services.emulators.gcs_signatures import is_signed, verify
from services.emulators.gcs_uploads import declared_hashes

_META = "X-Goog-Meta-"


def links(objects: Objects, accounts: ServiceAccounts, clock: Clock) -> Blueprint:
    routes = Blueprint("links", __name__, url_prefix="/<bucket>/<path:name>")
    routes.register_error_handler(GcsError, as_xml)

    @routes.before_request
    def allowed() -> None:
        bucket = (request.view_args or {})["bucket"]
        raw_path, _, raw_query = request.environ["REQUEST_URI"].partition("?")
        if is_signed(raw_query):
            verify(
                accounts,
                method=request.method,
                raw_path=raw_path,
                raw_query=raw_query,
                headers={name.lower(): value for name, value in request.headers.items()},
                now=clock(),
            )
        elif request.method == "PUT" or not objects.is_public(bucket):
            raise forbidden("Access denied.")

    @routes.get("")
    def get(bucket: str, name: str) -> AnyResponse:
        reply = download(objects, objects.get(bucket, name), request)
        for header in ("Content-Type", "Content-Disposition"):
            if override := request.args.get(f"response-{header.lower()}"):
                reply.headers[header] = override
        return reply

    @routes.put("")
    def put(bucket: str, name: str) -> Response:
        content = objects.new_content()
        content.write_bytes(request.get_data(cache=False))
        there = objects.insert(
            bucket,
            name,
            content,
            attributes=Attributes(
                content_type=request.content_type or Attributes.content_type,
                cache_control=request.headers.get("Cache-Control"),
                content_disposition=request.headers.get("Content-Disposition"),
                custom={
                    header.removeprefix(_META).lower(): value
                    for header, value in request.headers.items()
                    if header.startswith(_META)
                },
            ),
            declared=declared_hashes(request.headers),
            preconditions=Preconditions(
                generation=request.headers.get("X-Goog-If-Generation-Match", type=int)
            ),
        )
        return Response(headers={"x-goog-generation": str(there.generation)})

    return routes
