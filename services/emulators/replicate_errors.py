"""How Replicate says no: a problem of RFC 7807."""

from http import HTTPStatus

from flask import Response, jsonify

_TITLES = {401: "Unauthenticated", 402: "Insufficient credit", 422: "Input validation failed"}


class Problem(Exception):
    """One refusal."""

    def __init__(self, http: int, detail: str, *, title: str = "") -> None:
        super().__init__(detail)
        self.http = http
        self.detail = detail
        self.title = title or _TITLES.get(http) or HTTPStatus(http).phrase

    def as_json(self) -> Response:
        reply = jsonify(title=self.title, detail=self.detail, status=self.http)
        reply.status_code = self.http
        reply.content_type = "application/problem+json"
        return reply


def invalid(detail: str) -> Problem:
    return Problem(422, detail)


def not_found() -> Problem:
    return Problem(404, "The requested resource could not be found.")
