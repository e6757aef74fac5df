"""Somebody who is told by webhooks: a real server on 127.0.0.1 that answers as it is told to."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    path: str
    headers: Mapping[str, str]  # by their names in small letters
    body: bytes


@dataclass
class Receiver:
    """Answers 204, but for the next ones that are scripted."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    script: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)
    # While it is not set, requests are read and not answered.
    answers: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def then(self, status: int, **headers: str) -> None:
        """Answer the next request that has no other answer yet with this."""
        self.script.append((status, {k.replace("_", "-"): v for k, v in headers.items()}))

    def wait_for(self, count: int, *, seconds: float = 30) -> list[Received]:
        """What has come, once it is so many."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.received) >= count, seconds)
        assert came, f"{len(self.received)} of {count} webhooks came"
        return list(self.received)

    def _take(self, received: Received) -> tuple[int, Mapping[str, str]]:
        with self._changed:
            self.received.append(received)
            self.waiting += 1
            answer = self.script.pop(0) if self.script else (204, {})
            self._changed.notify_all()
        self.answers.wait(60)
        with self._changed:
            self.waiting -= 1
        return answer


@contextmanager
def webhook_receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.answers.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answered = receiver._take(Received(self.path, headers, body))
            try:
                self.send_response(status)
                for name, value in answered.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                self.close_connection = True  # It has stopped waiting.

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hooks/promptreel?who=ada"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.answers.set()
        server.shutdown()
        server.server_close()
        thread.join()
