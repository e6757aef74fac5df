"""What every reply tells a browser that it may do with it: as little as it can do without."""

from flask import Flask, Response, request

from services.api.gate import SIGNED_ENDPOINTS

# Data is nothing that a browser shows, and no page of anybody's shows it in a frame.
_DATA = "default-src 'none'; frame-ancestors 'none'"
# A browser that is led to a video wraps it into a page of its own, which loads it.
_FILE = f"{_DATA}; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
# Swagger UI: scripts of this server alone; it draws with styles and pictures that it makes itself.
_PAGE = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_ENDPOINTS = frozenset({"documentation.page"})


def register_security_headers(app: Flask) -> None:
    """Must be registered before whatever may answer a request by itself."""
    app.after_request(_harden)


def _harden(response: Response) -> Response:
    headers = response.headers
    headers["Content-Security-Policy"] = _policy()
    headers["X-Content-Type-Options"] = "nosniff"
    # A signed link must not be told to whoever is asked next.
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    # Whoever has a signed link may show the file on a page of his own; nothing else can be embedded.
    of_others = "cross-origin" if request.endpoint in SIGNED_ENDPOINTS else "same-origin"
    headers["Cross-Origin-Resource-Policy"] = of_others
    # Replies hold signed links and prompts: no cache on the way may keep them.
    headers.setdefault("Cache-Control", "no-store")
    return response


def _policy() -> str:
    if request.endpoint in _PAGE_ENDPOINTS:
        return _PAGE
    return _FILE if request.endpoint in SIGNED_ENDPOINTS else _DATA
