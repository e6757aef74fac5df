"""The JSON API's objects: describe, change, delete, list, download."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Request, Response, jsonify, request
from werkzeug.wrappers import Response as AnyResponse

from services.emulators.gcs_accounts import ServiceAccounts
from services.emulators.gcs_download import download
from services.emulators.gcs_errors import GcsError, as_json, invalid, not_implemented
from services.emulators.gcs_objects import Attributes, Objects, Preconditions, StoredObject


def objects_api(objects: Objects, accounts: ServiceAccounts) -> Blueprint:
    routes = Blueprint("objects", __name__)
    routes.register_error_handler(GcsError, as_json)
    routes.before_request(signed_in(accounts))

    @routes.post("/storage/v1/b")
    def create_bucket() -> Response:
        name = str(request.get_json()["name"])
        objects.add_bucket(name, public=False)
        return jsonify(kind="storage#bucket", id=name, name=name)

    @routes.get("/storage/v1/b/<bucket>")
    def describe_bucket(bucket: str) -> Response:
        objects.is_public(bucket)
        return jsonify(kind="storage#bucket", id=bucket, name=bucket)

    @routes.get("/storage/v1/b/<bucket>/o")
    def list_objects(bucket: str) -> Response:
        for unknown in {"delimiter", "versions"} & set(request.args):
            raise not_implemented(unknown)
        page = objects.list(
            bucket,
            prefix=request.args.get("prefix", ""),
            after=request.args.get("pageToken", ""),
            at_most=request.args.get("maxResults", type=int),
        )
        items = [as_resource(there) for there in page.objects]
        # Google's token is opaque; here it is a name.
        token = {} if page.next_after is None else {"nextPageToken": page.next_after}
        return jsonify(kind="storage#objects", items=items, **token)

    @routes.get("/storage/v1/b/<bucket>/o/<path:name>")
    @routes.get("/download/storage/v1/b/<bucket>/o/<path:name>")
    def get_object(bucket: str, name: str) -> AnyResponse:
        there = objects.get(bucket, name, generation=request.args.get("generation", type=int))
        preconditions(request).check(there)
        if request.args.get("alt") == "media":
            return download(objects, there, request)
        return jsonify(as_resource(there))

    @routes.patch("/storage/v1/b/<bucket>/o/<path:name>")
    def patch_object(bucket: str, name: str) -> Response:
        change: dict[str, Any] = request.get_json()
        there = objects.patch(
            bucket,
            name,
            lambda attributes: _patched(attributes, change),
            preconditions=preconditions(request),
        )
        return jsonify(as_resource(there))

    @routes.delete("/storage/v1/b/<bucket>/o/<path:name>")
    def delete_object(bucket: str, name: str) -> Response:
        generation = request.args.get("generation", type=int)
        objects.delete(bucket, name, generation=generation, preconditions=preconditions(request))
        return Response(status=204)

    return routes


def signed_in(accounts: ServiceAccounts) -> Callable[[], None]:
    """Clients of an emulator may be anonymous; a token that is not one of ours is refused."""

    def check() -> None:
        accounts.whose(request.headers.get("Authorization"))

    return check


def preconditions(incoming: Request) -> Preconditions:
    """What the request makes itself depend on; a condition not known here is never ignored."""
    for name in incoming.args:
        if name.startswith("if") and name not in ("ifGenerationMatch", "ifMetagenerationMatch"):
            raise not_implemented(name)
    try:
        generation, metageneration = (
            None if text is None else int(text)
            for text in map(incoming.args.get, ("ifGenerationMatch", "ifMetagenerationMatch"))
        )
    except ValueError:
        raise invalid("Invalid precondition.") from None
    return Preconditions(generation=generation, metageneration=metageneration)


def as_resource(there: StoredObject) -> dict[str, Any]:
    path = f"b/{there.bucket}/o/{quote(there.name, safe='')}"
    host = request.host_url
    resource = {
        "kind": "storage#object",
        "id": f"{there.bucket}/{there.name}/{there.generation}",
        "selfLink": f"{host}storage/v1/{path}",
        "mediaLink": f"{host}download/storage/v1/{path}?generation={there.generation}&alt=media",
        "name": there.name,
        "bucket": there.bucket,
        "generation": str(there.generation),
        "metageneration": str(there.metageneration),
        "contentType": there.attributes.content_type,
        "cacheControl": there.attributes.cache_control,
        "contentDisposition": there.attributes.content_disposition,
        "metadata": dict(there.attributes.custom) or None,
        "storageClass": "STANDARD",
        "size": str(there.size_bytes),
        "md5Hash": there.md5,
        "crc32c": there.crc32c,
        "etag": f"{there.generation}/{there.metageneration}",
        "timeCreated": there.created_at,
        "updated": there.updated_at,
    }
    return {key: value for key, value in resource.items() if value is not None}


def as_attributes(resource: Mapping[str, Any]) -> Attributes:
    return Attributes(
        content_type=resource["contentType"],
        cache_control=resource.get("cacheControl"),
        content_disposition=resource.get("contentDisposition"),
        custom=dict(resource.get("metadata") or {}),
    )


def _patched(attributes: Attributes, change: Mapping[str, Any]) -> Attributes:
    """Null takes away; custom metadata is merged key by key."""
    names = {
        "contentType": "content_type",
        "cacheControl": "cache_control",
        "contentDisposition": "content_disposition",
    }
    custom = {**attributes.custom, **(change.get("metadata") or {})}
    return replace(
        attributes,
        custom={key: value for key, value in custom.items() if value is not None},
        **{names[key]: value for key, value in change.items() if key in names},
    )
