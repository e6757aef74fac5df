"""A small server that speaks the part of Cloud Storage that Promptreel uses, as Google's does.

``python -m services.emulators.gcs --port 9023 --data state/gcs --bucket promptreel`` starts it;
Google's client finds it by ``STORAGE_EMULATOR_HOST=http://127.0.0.1:9023``.
"""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from flask import Flask

from services.emulators.gcs_accounts import ServiceAccounts
from services.emulators.gcs_clock import Clock
from services.emulators.gcs_faults import Faults
from services.emulators.gcs_identity import identity, metadata_server
from services.emulators.gcs_json import objects_api
from services.emulators.gcs_objects import Objects
from services.emulators.gcs_uploads import uploads
from services.emulators.gcs_xml import links
from services.emulators.serving import serving

RUNS_AS = "promptreel@demo-promptreel.iam.gserviceaccount.com"
_PROJECT = "demo-promptreel"


@dataclass(frozen=True, kw_only=True)
class GcsServer:
    """A running server, and what is behind it."""

    url: str
    objects: Objects
    accounts: ServiceAccounts
    faults: Faults
    clock: Clock

    def write_key_file(self, file: Path, *, email: str = RUNS_AS) -> None:
        """A new key of a service account, as a file that Google's libraries read."""
        self.accounts.write_key_file(email, file, project=_PROJECT, token_uri=f"{self.url}/token")


@contextmanager
def gcs_server(
    *,
    port: int = 0,
    data: Path | None = None,
    buckets: Sequence[str] = (),
    public_buckets: Sequence[str] = (),
) -> Iterator[GcsServer]:
    """A server on this machine while the block runs; without ``data`` it forgets everything."""
    with ExitStack() as stack:
        folder = data or Path(stack.enter_context(TemporaryDirectory(prefix="gcs-")))
        clock, accounts, faults = Clock(), ServiceAccounts(), Faults()
        objects = Objects(folder, clock=clock)
        for bucket in (*buckets, *public_buckets):
            objects.add_bucket(bucket, public=bucket in public_buckets)
        app = _create_app(objects, accounts, clock)
        yield GcsServer(
            url=stack.enter_context(serving(faults.around(app), port=port)),
            objects=objects,
            accounts=accounts,
            faults=faults,
            clock=clock,
        )


def _create_app(objects: Objects, accounts: ServiceAccounts, clock: Clock) -> Flask:
    app = Flask(__name__, static_folder=None)
    # Names of objects are theirs: two slashes are not one.
    app.url_map.merge_slashes = False
    app.register_blueprint(identity(accounts))
    app.register_blueprint(metadata_server(accounts, runs_as=RUNS_AS))
    app.register_blueprint(objects_api(objects, accounts))
    app.register_blueprint(uploads(objects, accounts))
    app.register_blueprint(links(objects, accounts, clock))
    return app


def main(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 9023,
    data: Annotated[
        Path | None, typer.Option(help="Where objects stay; else they go with it.")
    ] = None,
    bucket: Annotated[list[str] | None, typer.Option(help="A private bucket; repeat it.")] = None,
    public_bucket: Annotated[list[str] | None, typer.Option(help="Anybody may read it.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Where to write a new key.")] = None,
) -> None:
    """Serve Cloud Storage on this machine until Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with gcs_server(
        port=port, data=data, buckets=bucket or (), public_buckets=public_bucket or ()
    ) as server:
        if key_file is not None:
            server.write_key_file(key_file)
        typer.echo(f"STORAGE_EMULATOR_HOST={server.url}")
        stop.wait()


if __name__ == "__main__":
    typer.run(main)
