"""How Cloud Storage says no: JSON on the JSON API, XML on the paths that signed links lead to."""

from http import HTTPStatus
from xml.sax.saxutils import escape

from flask import Response, jsonify


class GcsError(Exception):
    """One refusal; ``reason`` is the JSON API's word for it, ``code`` the XML API's."""

    def __init__(
        self, status: HTTPStatus, reason: str, code: str, message: str, *, details: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.code = code
        self.message = message
        self.details = details  # more elements, for XML only


def no_such_bucket() -> GcsError:
    message = "The specified bucket does not exist."
    return GcsError(HTTPStatus.NOT_FOUND, "notFound", "NoSuchBucket", message)


def no_such_object() -> GcsError:
    message = "The specified key does not exist."
    return GcsError(HTTPStatus.NOT_FOUND, "notFound", "NoSuchKey", message)


def precondition_failed() -> GcsError:
    message = "At least one of the pre-conditions you specified did not hold."
    return GcsError(
        HTTPStatus.PRECONDITION_FAILED, "conditionNotMet", "PreconditionFailed", message
    )


def invalid(message: str, *, code: str = "InvalidArgument") -> GcsError:
    return GcsError(HTTPStatus.BAD_REQUEST, "invalid", code, message)


def wrong_hash(name: str, declared: str, computed: str) -> GcsError:
    message = (
        f'Provided {name} hash "{declared}" doesn\'t match calculated {name} hash "{computed}".'
    )
    return invalid(message, code="BadDigest")


def not_implemented(what: str) -> GcsError:
    """What this server does not know it refuses: ignoring it would be a lie."""
    message = f"{what} is not implemented by this emulator."
    return GcsError(HTTPStatus.NOT_IMPLEMENTED, "notImplemented", "NotImplemented", message)


def unauthenticated() -> GcsError:
    message = "Invalid Credentials"
    return GcsError(HTTPStatus.UNAUTHORIZED, "authError", "AuthenticationRequired", message)


def forbidden(message: str) -> GcsError:
    return GcsError(HTTPStatus.FORBIDDEN, "forbidden", "AccessDenied", message)


def as_json(error: GcsError) -> Response:
    problem = {"message": error.message, "domain": "global", "reason": error.reason}
    body = {"code": error.status.value, "message": error.message, "errors": [problem]}
    reply = jsonify(error=body)
    reply.status_code = error.status
    return reply


def as_xml(error: GcsError) -> Response:
    body = (
        "<?xml version='1.0' encoding='UTF-8'?>"
        f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
        f"{error.details}</Error>"
    )
    return Response(body, error.status, content_type="application/xml; charset=UTF-8")
