"""A Hugging Face hub on 127.0.0.1 that has one repository."""

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "4f2c6b1e" * 5
REPOSITORY = "studio/reel-1.3b"


@dataclass
class Hub:
    """Its files by name; large ones are those in Git LFS."""

    files: dict[str, bytes]
    large: set[str]
    url: str = ""
    fetched: list[str] = field(default_factory=list)

    def answer(self, path: str) -> bytes | None:
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            tree = [
                {"type": "file", "path": s.pop("rfilename"), "oid": s.pop("blobId"), **s}
                for s in self.siblings()
            ]
            return json.dumps(tree).encode()
        if path.startswith(f"/api/models/{REPOSITORY}"):
            told = {"id": REPOSITORY, "sha": COMMIT, "siblings": self.siblings()}
            return json.dumps(told).encode()
        return self.files.get(path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/"))

    def siblings(self) -> list[dict]:
        return [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
                **({"lfs": self._lfs(content)} if name in self.large else {}),
            }
            for name, content in self.files.items()
        ]

    def _lfs(self, content: bytes) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        return {
            "sha256": digest,
            "oid": digest,  # as the listing of folders calls it
            "size": len(content),
            "pointerSize": 134,
        }


@contextmanager
def running_hub(files: dict[str, bytes], *, large: set[str]):
    hub = Hub(files, large)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._answer(with_body=True)

        def do_HEAD(self):
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool):
            path = self.path.partition("?")[0]
            content = hub.answer(path)
            if with_body and "/resolve/" in path:
                hub.fetched.append(path.rpartition(f"{COMMIT}/")[2])
            self.send_response(404 if content is None else 200)
            content = content or b""
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
