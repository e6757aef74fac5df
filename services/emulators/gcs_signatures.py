"""V4 signed requests, verified as Cloud Storage does: from the request alone and the account's keys.

https://cloud.google.com/storage/docs/authentication/signatures
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from services.emulators.gcs_accounts import ServiceAccounts
from services.emulators.gcs_errors import GcsError, invalid

_ALGORITHM = "GOOG4-RSA-SHA256"
_WEEK_SECONDS = 7 * 24 * 3600
_SKEW = timedelta(minutes=15)
_SIGNATURE = "x-goog-signature"


def is_signed(raw_query: str) -> bool:
    return _SIGNATURE in _parameters(raw_query)


def verify(
    accounts: ServiceAccounts,
    *,
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    now: datetime,
) -> None:
    """Raises ``GcsError`` unless an account signed this request and its time is not over."""
    given = _parameters(raw_query)
    if given.get("x-goog-algorithm") != _ALGORITHM:
        raise invalid(f"Invalid algorithm: only {_ALGORITHM} is supported.")
    email, scope = _credential(given)
    _check_time(given, now)
    request = _canonical_request(method, raw_path, raw_query, given, headers)
    text = "\n".join(
        (_ALGORITHM, given["x-goog-date"], scope, hashlib.sha256(request.encode()).hexdigest())
    )
    try:
        signature = bytes.fromhex(given[_SIGNATURE])
    except ValueError:
        signature = b""
    if not accounts.verifies(email, text.encode(), signature):
        raise GcsError(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            "SignatureDoesNotMatch",
            "Access denied.",
            details=f"<StringToSign>{escape(text)}</StringToSign>"
            f"<CanonicalRequest>{escape(request)}</CanonicalRequest>",
        )


def _credential(given: Mapping[str, str]) -> tuple[str, str]:
    """Whose key signed, and for which day, place and service."""
    email, _, scope = given.get("x-goog-credential", "").partition("/")
    day = given.get("x-goog-date", "")[:8]
    date, _, rest = scope.partition("/")
    location, _, service = rest.partition("/")
    if date != day or not location or service != "storage/goog4_request":
        raise _malformed("X-Goog-Credential")
    return email, scope


def _check_time(given: Mapping[str, str], now: datetime) -> None:
    try:
        moment = datetime.strptime(given["x-goog-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        seconds = int(given["x-goog-expires"])
    except (KeyError, ValueError):
        raise _malformed("X-Goog-Date or X-Goog-Expires") from None
    if not 1 <= seconds <= _WEEK_SECONDS:
        raise invalid(f"X-Goog-Expires must be between 1 and {_WEEK_SECONDS}.")
    if moment > now + _SKEW:
        message = "The difference between the request time and the server's time is too large."
        raise GcsError(HTTPStatus.FORBIDDEN, "forbidden", "RequestTimeTooSkewed", message)
    expires_at = moment + timedelta(seconds=seconds)
    if now >= expires_at:
        raise GcsError(
            HTTPStatus.BAD_REQUEST,
            "badRequest",
            "ExpiredToken",
            "The provided token has expired.",
            details=f"<Details>Request signature expired at: {expires_at.isoformat()}</Details>",
        )


def _canonical_request(
    method: str,
    raw_path: str,
    raw_query: str,
    given: Mapping[str, str],
    headers: Mapping[str, str],
) -> str:
    signed_headers = given.get("x-goog-signedheaders", "")
    lines = []
    for name in signed_headers.split(";"):
        if name not in headers:
            raise _malformed(name or "X-Goog-SignedHeaders")
        lines.append(f"{name}:{' '.join(headers[name].split())}\n")
    if "host" not in signed_headers.split(";"):
        raise _malformed("X-Goog-SignedHeaders")
    payload = headers["x-goog-content-sha256"] if "x-goog-content-sha256" in signed_headers else ""
    return "\n".join(
        (
            method,
            raw_path,
            _canonical_query(raw_query),
            "".join(lines),
            signed_headers,
            payload or "UNSIGNED-PAYLOAD",
        )
    )


def _canonical_query(raw_query: str) -> str:
    """Every parameter but the signature, encoded in the one way, sorted."""
    pairs = (pair.partition("=") for pair in raw_query.split("&") if pair)
    encoded = (
        f"{quote(unquote(name), safe='~')}={quote(unquote(value), safe='~')}"
        for name, _, value in pairs
        if unquote(name).lower() != _SIGNATURE
    )
    return "&".join(sorted(encoded))


def _parameters(raw_query: str) -> Mapping[str, str]:
    pairs = (pair.partition("=") for pair in raw_query.split("&") if pair)
    return {unquote(name).lower(): unquote(value) for name, _, value in pairs}


def _malformed(name: str) -> GcsError:
    return GcsError(
        HTTPStatus.BAD_REQUEST,
        "badRequest",
        "MalformedSecurityHeader",
        "Your request has a malformed header.",
        details=f"<ParameterName>{escape(name)}</ParameterName>",
    )
