"""Google's doors beside Cloud Storage: OAuth tokens, IAM's signBlob, Cloud Run's metadata server."""

import base64
import binascii
import json
from typing import Any

from flask import Blueprint, Response, jsonify, request

from services.emulators.gcs_accounts import ServiceAccounts
from services.emulators.gcs_errors import GcsError, as_json, forbidden, invalid

_GOOGLES_OAUTH = "https://oauth2.googleapis.com/token"
_TOKEN_SECONDS = 3600
_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_FLAVOR = {"Metadata-Flavor": "Google"}


def identity(accounts: ServiceAccounts) -> Blueprint:
    doors = Blueprint("identity", __name__)
    doors.register_error_handler(GcsError, as_json)

    @doors.post("/token")
    def token() -> Response:
        email = _asserted(accounts, request.form["assertion"])
        return _token_reply(accounts, email)

    @doors.post("/v1/projects/-/serviceAccounts/<email>:signBlob")
    def sign_blob(email: str) -> Response:
        caller = accounts.whose(request.headers.get("Authorization"))
        try:
            payload = base64.b64decode(request.get_json()["payload"], validate=True)
        except (KeyError, binascii.Error):
            raise invalid("payload must be base64.") from None
        signature = accounts.sign(email, payload, caller=caller)
        return jsonify(keyId="system", signedBlob=base64.b64encode(signature).decode())

    return doors


def metadata_server(accounts: ServiceAccounts, *, runs_as: str) -> Blueprint:
    """Tells whoever asks that they are ``runs_as``, as on Cloud Run."""
    answers = Blueprint("metadata", __name__)
    answers.register_error_handler(GcsError, as_json)

    @answers.before_request
    def only_who_means_it() -> None:
        # Google refuses the rest too: a page cannot be tricked into asking.
        if request.headers.get("Metadata-Flavor") != "Google":
            raise forbidden("Missing Metadata-Flavor:Google header.")
        accounts.register(runs_as)

    @answers.get("/")
    def ping() -> Response:
        return Response("computeMetadata/\n", headers=_FLAVOR)

    @answers.get("/computeMetadata/v1/instance/service-accounts/<_account>/")
    def who_am_i(_account: str) -> Response:
        reply = jsonify(aliases=["default"], email=runs_as, scopes=_SCOPES)
        reply.headers.extend(_FLAVOR)
        return reply

    @answers.get("/computeMetadata/v1/instance/service-accounts/<_account>/token")
    def my_token(_account: str) -> Response:
        return _token_reply(accounts, runs_as)

    @answers.get("/computeMetadata/v1/universe/universe-domain")
    def universe() -> Response:
        return Response("googleapis.com", headers=_FLAVOR)

    return answers


def _token_reply(accounts: ServiceAccounts, email: str) -> Response:
    token = {"access_token": accounts.issue_token(email), "token_type": "Bearer"}
    reply = jsonify(**token, expires_in=_TOKEN_SECONDS)
    reply.headers.extend(_FLAVOR)
    return reply


def _asserted(accounts: ServiceAccounts, assertion: str) -> str:
    """Who signed a JWT for this server's token endpoint."""
    try:
        head, body, signature = assertion.split(".")
        claims: dict[str, Any] = json.loads(_from_base64url(body))
        email, signed = str(claims["iss"]), f"{head}.{body}".encode()
        genuine = accounts.verifies(email, signed, _from_base64url(signature))
    except (ValueError, KeyError):
        genuine, claims, email = False, {}, ""
    # Google's library names Google's endpoint whatever the key file says.
    if not genuine or claims.get("aud") not in (request.base_url, _GOOGLES_OAUTH):
        raise invalid("invalid_grant: Invalid JWT Signature.")
    return email


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
