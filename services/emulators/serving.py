"""A WSGI application served on this machine for as long as a block runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

LOCALHOST = "127.0.0.1"


@contextmanager
def serving(app: "WSGIApplication", *, port: int = 0) -> Iterator[str]:
    """The URL; 0 takes a free port."""
    server = make_server(LOCALHOST, port, app, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{LOCALHOST}:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(WSGIRequestHandler):
    def connection_dropped(
        self,
        error: BaseException,  # noqa: ARG002 - the parent's
        environ: "WSGIEnvironment | None" = None,  # noqa: ARG002 - the parent's
    ) -> None:
        """Werkzeug would wait for another request."""
        self.close_connection = True

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the parent's name
        """Say nothing of requests; what goes wrong is still told."""
        if type != "info":
            super().log(type, message, *args)
