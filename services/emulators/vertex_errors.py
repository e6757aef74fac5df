"""How Vertex AI says no."""

from flask import Response, jsonify

_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    409: "ABORTED", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 501: "UNIMPLEMENTED",
    503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


_RPC = "type.googleapis.com/google.rpc"


class VertexError(Exception):
    """One refusal; ``reason`` is that of Google's ``ErrorInfo``, ``retry_delay`` of its ``RetryInfo``."""

    def __init__(
        self,
        http: int,
        status: str,
        message: str,
        *,
        reason: str | None = None,
        retry_delay: str | None = None,
    ) -> None:
        super().__init__(message)
        self.http = http
        self.status = status or _STATUS.get(http, "UNKNOWN")
        self.message = message
        self.details: list[dict[str, str]] = []
        if reason is not None:
            self.details.append({"@type": f"{_RPC}.ErrorInfo", "reason": reason})
        if retry_delay is not None:
            self.details.append({"@type": f"{_RPC}.RetryInfo", "retryDelay": retry_delay})

    def as_json(self) -> Response:
        error = {"code": self.http, "message": self.message, "status": self.status}
        reply = jsonify(error=error | ({"details": self.details} if self.details else {}))
        reply.status_code = self.http
        return reply


def invalid(message: str) -> VertexError:
    return VertexError(400, "", message)


def no_such_model(model: str) -> VertexError:
    return VertexError(404, "", f"Publisher Model `{model}` was not found.")


def not_known_here(what: str) -> VertexError:
    """What this server does not know it refuses: ignoring it would be a lie."""
    return VertexError(501, "", f"{what} is not implemented by this emulator.")
