"""A small server that speaks the part of Replicate that Promptreel uses, to Replicate's own client.

``python -m services.emulators.replicate --port 9025`` starts it; a client finds it by its base URL.
What it does not know it refuses, and it speaks to nobody but the webhooks it was given.
"""

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import typer
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from services.emulators.replicate_errors import Problem, invalid, not_found
from services.emulators.replicate_pictures import MIME_TYPES, check_input
from services.emulators.replicate_predictions import Predictions
from services.emulators.replicate_script import Asked, Call, Script
from services.emulators.replicate_webhooks import Webhooks
from services.emulators.serving import serving

API_TOKEN = "r8_a-token-of-the-emulator"  # noqa: S105 - it opens nothing but this
WEBHOOK_SECRET = "whsec_dGhlIGtleSBvZiBhbiBlbXVsYXRvciwgb2Ygbm8gdXNl"  # noqa: S105 - it signs nothing but this
MODELS = ("google/nano-banana",)

_BODY = {"input", "webhook", "webhook_events_filter"}
_EVENTS = {"start", "output", "logs", "completed"}


@dataclass(frozen=True, kw_only=True)
class ReplicateServer:
    """A running server, and what is behind it."""

    url: str
    script: Script
    predictions: Predictions
    webhooks: Webhooks

    @property
    def asked(self) -> list[Asked]:
        return self.script.asked

    def deliver(
        self,
        prediction_id: str,
        *,
        event: str = "completed",
        times: int = 1,
        at_once: bool = False,
        payload: object = None,
        url: str | None = None,
        signed_at: datetime | None = None,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[int]:
        """Send a webhook by hand, always with the id it has; the statuses, 0 where no answer came.

        The event is told as it was when it happened, or as things stand; ``payload`` is said, and
        signed, instead. Another secret forges it, another moment makes it old.
        """
        letter = self.webhooks.letter(event, self.predictions.read(prediction_id))
        if payload is not None:
            letter = replace(letter, body=json.dumps(payload).encode())
        letter = replace(letter, url=url or letter.url)
        start = threading.Barrier(times if at_once else 1)

        def send(_: int) -> int:
            start.wait()
            return self.webhooks.send(letter, signed_at=signed_at, secret=secret, headers=headers)

        with ThreadPoolExecutor(max_workers=start.parties) as senders:
            return list(senders.map(send, range(times)))


@contextmanager
def replicate_server(
    *,
    port: int = 0,
    polls: int | None = 2,
    seconds: float | None = None,
    token: str = API_TOKEN,
    secret: str = WEBHOOK_SECRET,
    models: Sequence[str] = MODELS,
    webhooks: bool = True,
) -> Iterator[ReplicateServer]:
    """A server on this machine while the block runs.

    A prediction ends after so many polls or so many seconds, whichever is first; None: not by that.
    Without ``webhooks`` only those are sent that ``deliver`` sends.
    """
    script, sender = Script(), Webhooks(secret, by_themselves=webhooks)
    predictions = Predictions(script, polls=polls, seconds=seconds, tell=sender.tell)
    app = _create_app(script, predictions, token=token, models=models)
    try:
        with serving(app, port=port) as url:
            predictions.url = url
            try:
                yield ReplicateServer(
                    url=url, script=script, predictions=predictions, webhooks=sender
                )
            finally:
                script.end()
    finally:
        predictions.close()
        sender.close()


def _create_app(
    script: Script, predictions: Predictions, *, token: str, models: Sequence[str]
) -> Flask:
    app = Flask(__name__, static_folder=None)
    # A hung up connection is none of Flask's business.
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.register_error_handler(Problem, Problem.as_json)
    app.register_error_handler(HTTPException, lambda error: _problem(error).as_json())

    surface = _Surface(predictions, token, models)
    for call, method, path, view in (
        ("create", "POST", "/v1/models/<owner>/<name>/predictions", surface.create),
        ("read", "GET", "/v1/predictions/<prediction_id>", surface.read),
        ("cancel", "POST", "/v1/predictions/<prediction_id>/cancel", surface.cancel),
        ("file", "GET", "/files/<prediction_id>/<name>", surface.file),
    ):
        scripted = _scripted(script, cast("Call", call), view)
        app.add_url_rule(path, call, scripted, methods=[method])
    return app


@dataclass(frozen=True)
class _Surface:
    """What is answered when the script says nothing else."""

    predictions: Predictions
    token: str
    models: Sequence[str]

    def create(self, owner: str, name: str) -> Response:
        _check_token(self.token)
        if f"{owner}/{name}" not in self.models:
            raise not_found()
        reply = jsonify(self.predictions.create(f"{owner}/{name}", _checked_order()))
        reply.status_code = 201
        return reply

    def read(self, prediction_id: str) -> Response:
        _check_token(self.token)
        return jsonify(self.predictions.poll(prediction_id))

    def cancel(self, prediction_id: str) -> Response:
        _check_token(self.token)
        return jsonify(self.predictions.cancel(prediction_id))

    def file(self, prediction_id: str, name: str) -> Response:
        """Without a token, as from Replicate's own delivery."""
        content = self.predictions.files.get((prediction_id, name))
        if content is None:
            raise not_found()
        return Response(content, mimetype=MIME_TYPES[name.rpartition(".")[2]])


def _scripted(script: Script, call: Call, view: Callable[..., Response]) -> Callable[..., Response]:
    def speak(**named: str) -> Response:
        asked = Asked(
            call=call,
            path=request.path,
            body=request.get_json(silent=True),
            headers=dict(request.headers),
        )
        return script.meet(asked, lambda: _unless_refused(partial(view, **named)))

    return speak


def _unless_refused(do: Callable[[], Response]) -> Response:
    try:
        return do()
    except Problem as problem:
        return problem.as_json()


def _problem(error: HTTPException) -> Problem:
    return Problem(error.code or 500, "This server does not know what was asked.")


def _check_token(token: str) -> None:
    if request.headers.get("Authorization") != f"Bearer {token}":
        raise Problem(401, "You did not pass a valid authentication token")


def _checked_order() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise Problem(400, "The body is no JSON object.")
    for unknown in set(body) - _BODY:
        raise invalid(f"- {unknown}: Additional property is not allowed")
    check_input(body.get("input"))
    if "webhook" in body:
        _check_webhook(body["webhook"])
    events = body.get("webhook_events_filter", [])
    if not isinstance(events, list) or not set(map(str, events)) <= _EVENTS:
        raise invalid("- webhook_events_filter: must be start, output, logs or completed")
    return body


def _check_webhook(url: object) -> None:
    """HTTPS, as at Replicate; or plain HTTP to this machine, which nothing else could be sent to."""
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    if parts.hostname and (parts.scheme == "https" or _is_here(parts.scheme, parts.hostname)):
        return
    raise invalid("- webhook: must be a HTTPS URL")


def _is_here(scheme: str, host: str) -> bool:
    try:
        return scheme == "http" and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False


def main(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 9025,
    seconds: Annotated[float, typer.Option(help="How long a picture takes.")] = 2,
    token_file: Annotated[Path | None, typer.Option(help="Where to write the API token.")] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="Where to write the secret that webhooks are signed with.")
    ] = None,
) -> None:
    """Serve Replicate on this machine until Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with replicate_server(port=port, polls=None, seconds=seconds) as server:
        for file, content in ((token_file, API_TOKEN), (secret_file, WEBHOOK_SECRET)):
            if file is not None:
                file.write_text(content)
        typer.echo(f"images.replicate.base_url: {server.url}")
        stop.wait()


if __name__ == "__main__":
    typer.run(main)
