"""Which pages of other origins may ask by a browser: none, unless the configuration names them.

An origin is compared whole. Credentials of a browser are never allowed: a key is sent by whoever has it.
"""

from collections.abc import Collection

from flask import Flask, Response, request

_REQUEST_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range, X-Request-ID"
)
_REPLY_HEADERS = "Accept-Ranges, Content-Range, ETag, Location, Retry-After, X-Request-ID"
_KNOWN_SECONDS = "600"


def register_cors(app: Flask, origins: Collection[str]) -> None:
    """Must be registered before keys are asked for: a browser asks first, and without one."""
    if not origins:
        return
    allowed = frozenset(origins)

    def answer_preflight() -> Response | None:
        if not _is_preflight() or request.origin not in allowed or request.url_rule is None:
            return None
        methods = ", ".join(sorted(request.url_rule.methods or ()))
        return Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": methods,
                "Access-Control-Allow-Headers": _REQUEST_HEADERS,
                "Access-Control-Max-Age": _KNOWN_SECONDS,
            },
        )

    def allow(response: Response) -> Response:
        # Also where nothing is allowed: a cache must not give one page what is another's.
        response.vary.add("Origin")
        if request.origin in allowed:
            response.headers["Access-Control-Allow-Origin"] = request.origin
            response.headers["Access-Control-Expose-Headers"] = _REPLY_HEADERS
        return response

    app.before_request(answer_preflight)
    app.after_request(allow)


def _is_preflight() -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
