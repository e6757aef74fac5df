"""What the command line needs of the API: submit, poll, cancel, download."""

import os
import tempfile
from pathlib import Path

import httpx

from shared.schemas import ArtifactLink, ErrorReply, Health, JobAccepted, JobLogs, JobView

_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 256 * 1024


class RequestRefused(Exception):
    """The API answered with an error; the message is its own."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """One server, one key."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_SECONDS
        )

    def submit(self, prompt: str) -> str:
        """The id of the new job."""
        reply = self._http.post("/v1/jobs", json={"prompt": prompt})
        return JobAccepted.model_validate_json(_body(reply)).id

    def model_loaded(self) -> bool:
        return Health.model_validate_json(_body(self._http.get("/health"))).model_loaded

    def job(self, job_id: str) -> JobView:
        return JobView.model_validate_json(_body(self._http.get(f"/v1/jobs/{job_id}")))

    def newest_log_line(self, job_id: str) -> str | None:
        """Without its timestamp."""
        reply = self._http.get(f"/v1/jobs/{job_id}/logs", params={"tail": 1})
        lines = JobLogs.model_validate_json(_body(reply)).lines
        return lines[-1].partition(" ")[2] if lines else None

    def cancel(self, job_id: str) -> None:
        _body(self._http.post(f"/v1/jobs/{job_id}/cancel"))

    def download(self, job_id: str, target: Path) -> None:
        """Fetch the video; the file appears only when it is whole."""
        reply = self._http.get(f"/v1/jobs/{job_id}/artifact")
        link = ArtifactLink.model_validate_json(_body(reply))
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
        try:
            # A signed link needs no key, and may lead to another host: send none.
            with (
                os.fdopen(descriptor, "wb") as file,
                httpx.stream("GET", link.url, timeout=_TIMEOUT_SECONDS) as stream,
            ):
                stream.raise_for_status()
                for chunk in stream.iter_bytes(_CHUNK_BYTES):
                    file.write(chunk)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)

    def close(self) -> None:
        self._http.close()


def _body(reply: httpx.Response) -> bytes:
    if reply.is_success:
        return reply.content
    try:
        message = ErrorReply.model_validate_json(reply.content).error.message
    except ValueError:
        message = f"the server answered {reply.status_code}"
    raise RequestRefused(message, status=reply.status_code)
