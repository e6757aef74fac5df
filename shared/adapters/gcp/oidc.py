"""Google's word for who is calling: the OIDC token of a Pub/Sub push or of Cloud Scheduler.

A token counts if Google signed it, now, for this address, in the name of the one service account
that may call. The first three alone would let in every service account of the world.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping

import httpx
import structlog
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from shared.config_sections import Caller
from shared.errors import CertificatesUnavailable, UntrustedCaller

GOOGLE_CERTIFICATES_URL = "https://www.googleapis.com/oauth2/v1/certs"

_ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
_CLOCK_SKEW_SECONDS = 10
_FETCH_SECONDS = 5.0
_KEPT_SECONDS_MIN, _KEPT_SECONDS, _KEPT_SECONDS_MAX = 60.0, 3600.0, 86_400.0
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})")
# What Cloud Run puts in place of a signature that it has checked itself.
_SIGNATURE_REMOVED = ".SIGNATURE_REMOVED_BY_GOOGLE"

log = structlog.get_logger("promptreel.oidc")


class Certificates:
    """Google's public certificates by key id, kept as long as Google says."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._by_key_id: Mapping[str, str] = {}
        self._asked_at = self._good_until = -_KEPT_SECONDS_MAX

    def with_key(self, key_id: str) -> Mapping[str, str]:
        """All certificates. Raises ``CertificatesUnavailable``."""
        with self._lock:
            now = self._clock()
            # A key we do not know may be new; but nobody can make us ask again and again.
            is_new = key_id not in self._by_key_id and now - self._asked_at >= _KEPT_SECONDS_MIN
            if is_new or now >= self._good_until:
                self._fetch(now)
            return self._by_key_id

    def _fetch(self, now: float) -> None:
        self._asked_at = now
        try:
            reply = httpx.get(self._url, timeout=_FETCH_SECONDS).raise_for_status()
            by_key_id = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise CertificatesUnavailable("Google's certificates cannot be fetched.") from error
        if not isinstance(by_key_id, dict):
            raise CertificatesUnavailable("Google's certificates cannot be read.")
        stated = _MAX_AGE.search(reply.headers.get("Cache-Control", ""))
        seconds = float(stated.group(1)) if stated else _KEPT_SECONDS
        self._by_key_id = by_key_id
        self._good_until = now + min(max(seconds, _KEPT_SECONDS_MIN), _KEPT_SECONDS_MAX)


class CallerCheck:
    """Lets one service account in, with tokens made for one audience."""

    def __init__(
        self,
        *,
        audience: str,
        service_account: str,
        certificates_url: str = GOOGLE_CERTIFICATES_URL,
        checked_by_cloud_run: bool = False,
    ) -> None:
        """``checked_by_cloud_run``: a service that nobody reaches without Cloud Run's own check.

        It removes the signatures it has checked; whose token it is, and for whom, is still ours to look at.
        """
        if not audience or not service_account:
            # An empty audience would be no check at all.
            raise ValueError("name the audience and the service account that may call")
        self._audience = audience
        self._service_account = service_account
        self._certificates = Certificates(certificates_url)
        self._checked_by_cloud_run = checked_by_cloud_run

    def check(self, authorization: str | None) -> None:
        """Raises ``UntrustedCaller``, or ``CertificatesUnavailable`` when nobody can tell."""
        try:
            self._check(authorization)
        except UntrustedCaller as error:
            log.warning("caller refused", reason=error.reason)
            raise

    def _check(self, authorization: str | None) -> None:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UntrustedCaller("no bearer token")
        claims = self._signed_claims(token.strip())
        if claims.get("iss") not in _ISSUERS:
            raise UntrustedCaller("another issuer")
        if claims.get("email") != self._service_account:
            raise UntrustedCaller("another account")
        if claims.get("email_verified") is not True:
            raise UntrustedCaller("an account whose address is not verified")

    def _signed_claims(self, token: str) -> Mapping[str, object]:
        """The claims of a token that Google signed for us and that is valid now."""
        try:
            if self._checked_by_cloud_run and token.endswith(_SIGNATURE_REMOVED):
                return self._claims_for_us(token)
            key_id = jwt.decode_header(token).get("kid")  # type: ignore[no-untyped-call] # google-auth's
            # A token without a key id would be tried against every certificate.
            if not isinstance(key_id, str):
                raise UntrustedCaller("no key id")
            claims: Mapping[str, object] = jwt.decode(  # type: ignore[no-untyped-call] # google-auth's
                token,
                certs=self._certificates.with_key(key_id),
                audience=self._audience,
                clock_skew_in_seconds=_CLOCK_SKEW_SECONDS,
            )
        # What google-auth raises for the many ways in which text is not a token.
        except (GoogleAuthError, ValueError, TypeError, RecursionError) as error:
            raise UntrustedCaller(f"not a valid token ({type(error).__name__})") from error
        return claims

    def _claims_for_us(self, token: str) -> Mapping[str, object]:
        """What is left to check without a signature. Raises ``ValueError`` and ``TypeError``."""
        claims: Mapping[str, object] = jwt.decode(token, verify=False)  # type: ignore[no-untyped-call] # google-auth's
        if claims.get("aud") != self._audience:
            raise UntrustedCaller("another audience")
        expires_at = claims.get("exp")
        if not isinstance(expires_at, int) or expires_at + _CLOCK_SKEW_SECONDS < time.time():
            raise UntrustedCaller("an expired token")
        return claims


def caller_check(
    caller: Caller, certificates_url: str = GOOGLE_CERTIFICATES_URL
) -> CallerCheck | None:
    """The check the configuration asks for; None where it names nobody."""
    if caller.audience is None or caller.service_account is None:
        return None
    return CallerCheck(
        audience=caller.audience,
        service_account=caller.service_account,
        certificates_url=certificates_url,
        checked_by_cloud_run=caller.checked_by_cloud_run,
    )
