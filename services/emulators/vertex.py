"""A small server that speaks the part of Vertex AI that Promptreel uses, to Google's own client.

``python -m services.emulators.vertex --port 9024`` starts it; a client finds it by its base URL. What
it does not know it refuses, and it never speaks to anybody else.
"""

import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from flask import Flask, Response, jsonify, request

from services.emulators.gcs_accounts import ServiceAccounts
from services.emulators.gcs_errors import GcsError
from services.emulators.gcs_identity import identity
from services.emulators.serving import serving
from services.emulators.vertex_errors import VertexError, invalid, no_such_model, not_known_here
from services.emulators.vertex_gemini import generate
from services.emulators.vertex_operations import Operations
from services.emulators.vertex_script import Asked, Call, Script

PROJECT = "demo-promptreel"
LOCATION = "us-central1"
API_KEY = "AIza-an-api-key-of-the-emulator"
RUNS_AS = "promptreel@demo-promptreel.iam.gserviceaccount.com"

VEO = (
    "veo-3.0-generate-001", "veo-3.0-fast-generate-001", "veo-3.0-generate-preview",
    "veo-3.1-generate-001", "veo-3.1-generate-preview",
)  # fmt: skip
GEMINI = ("gemini-2.5-flash", "gemini-2.5-flash-image", "gemini-2.5-flash-image-preview")

_RESOURCE = re.compile(
    r"(?P<place>projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/)?"
    r"(?P<path>publishers/google/models/(?P<model>[^/:]+))"
)


@dataclass(frozen=True, kw_only=True)
class VertexServer:
    """A running server, and what is behind it."""

    url: str
    script: Script
    operations: Operations
    accounts: ServiceAccounts

    def write_key_file(self, file: Path, *, email: str = RUNS_AS) -> None:
        """A new key of a service account, as a file that Google's libraries read."""
        self.accounts.write_key_file(email, file, project=PROJECT, token_uri=f"{self.url}/token")


@contextmanager
def vertex_server(
    *,
    port: int = 0,
    polls: int = 2,
    projects: Sequence[str] = (PROJECT,),
    store: Callable[[str, bytes], None] = lambda _uri, _clip: None,
) -> Iterator[VertexServer]:
    """A server on this machine while the block runs.

    A clip is there after so many polls; ``store`` gets those that were ordered into a bucket.
    """
    script, accounts = Script(), ServiceAccounts()
    operations = Operations(script, polls=polls, store=store)
    app = _create_app(script, operations, accounts, projects)
    with serving(app, port=port) as url:
        yield VertexServer(url=url, script=script, operations=operations, accounts=accounts)


def _create_app(
    script: Script, operations: Operations, accounts: ServiceAccounts, projects: Sequence[str]
) -> Flask:
    app = Flask(__name__, static_folder=None)
    # A hung up connection is none of Flask's business.
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.register_blueprint(identity(accounts))
    app.register_error_handler(VertexError, VertexError.as_json)

    @app.post("/v1/<path:resource>:<call>")
    @app.post("/v1beta1/<path:resource>:<call>")
    def speak(resource: str, call: str) -> Response:
        named = _RESOURCE.fullmatch(resource)
        if named is None or call not in get_args(Call):
            raise not_known_here(f"{resource}:{call}")
        model, body = named["model"], request.get_json()
        asked = Asked(
            call=cast("Call", call),
            model=model,
            path=request.path,
            body=body,
            headers=dict(request.headers),
        )
        befalls = script.meet(asked)
        if befalls is not None:
            return befalls
        _check_caller(accounts, project=named["project"], projects=projects)
        if model not in (GEMINI if call == "generateContent" else VEO):
            raise no_such_model(named["path"])
        if call == "predictLongRunning":
            # Google names the project by its number then.
            place = named["place"] or f"projects/1044/locations/{LOCATION}/"
            return jsonify(operations.submit(f"{place}{named['path']}", model, body))
        if call == "fetchPredictOperation":
            return jsonify(operations.fetch(named["path"], body))
        return jsonify(generate(body))

    return app


def _check_caller(
    accounts: ServiceAccounts, *, project: str | None, projects: Sequence[str]
) -> None:
    key = request.headers.get("x-goog-api-key")
    if key is not None:
        if key != API_KEY:
            raise VertexError(400, "", "API key not valid.", reason="API_KEY_INVALID")
        return
    try:
        whose = accounts.whose(request.headers.get("Authorization"))
    except GcsError:
        whose = None
    if whose is None:
        raise VertexError(401, "", "Request had invalid authentication credentials.")
    if project is None:
        raise invalid("A project must be named.")
    if project not in projects:
        message = "Permission 'aiplatform.endpoints.predict' denied."
        raise VertexError(403, "", message, reason="IAM_PERMISSION_DENIED")


def main(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 9024,
    polls: Annotated[
        int, typer.Option(help="How often a clip is asked for until it is there.")
    ] = 2,
    key_file: Annotated[Path | None, typer.Option(help="Where to write a new key.")] = None,
) -> None:
    """Serve Vertex AI on this machine until Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with vertex_server(port=port, polls=polls) as server:
        if key_file is not None:
            server.write_key_file(key_file)
        typer.echo(f"vertex.base_url: {server.url}")
        stop.wait()


if __name__ == "__main__":
    typer.run(main)
