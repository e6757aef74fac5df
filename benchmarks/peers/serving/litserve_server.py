"""A LitServe server, run as a script: one worker, one request at a time, the video in the reply."""

import sys

import litserve
from fastapi import Response
from noop import render


class Video(litserve.LitAPI):
    def setup(self, device: str) -> None:
        """No model: the work is the same for everybody."""

    def decode_request(self, request: dict[str, str]) -> str:
        return request["prompt"]

    def predict(self, x: str) -> bytes:
        return render(x).read_bytes()

    def encode_response(self, output: bytes) -> Response:
        return Response(content=output, media_type="video/mp4")


if __name__ == "__main__":
    server = litserve.LitServer(Video(), accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
