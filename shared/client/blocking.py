"""`Promptreel`: the client that blocks. What is not about sending is in the other files."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import httpx

from shared.client import calls
from shared.client.calls import Call, ReplyT
from shared.client.downloading import Download, OnBytes
from shared.client.errors import ClientError, Unreadable, error_of
from shared.client.following import Following, JobEnded, JobEvent
from shared.client.server import TRIES, Server, reaching
from shared.schemas import (
    ArtifactLink,
    Health,
    JobAccepted,
    JobDetails,
    JobList,
    Status,
)


class Promptreel:
    """One server, one key. Calls raise ``ClientError``; what passes by itself is tried again."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_seconds: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ``ValueError`` for what is no address or no key."""
        self._server = Server(base_url, api_key, timeout_seconds, tries)
        self._http = httpx.Client(transport=transport)
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"Promptreel({self._server.host!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(self, prompt: str, *, idempotency_key: str | None = None) -> JobAccepted:
        """A new job; with a key that was sent before, the job of then."""
        return self.call(calls.submit(prompt, idempotency_key))

    def get(self, job_id: str) -> JobDetails:
        return self.call(calls.get(job_id))

    def list(
        self,
        *,
        limit: int = 20,
        after: str | None = None,
        order: str | None = None,
        status: Status | None = None,
    ) -> JobList:
        """One page of jobs, the newest first; the next one begins ``after`` its ``last_id``."""
        return self.call(calls.page(limit=limit, after=after, order=order, status=status))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[JobEvent]:
        """What becomes of the job, until it has ended; each log line after that number, once."""
        first = self._server.patience()
        following = Following(job_id, self._server.host, after=after, first=first)
        while not following.done:
            try:
                if following.polls:
                    yield from following.polled(self._once(calls.get(job_id)))
                else:
                    yield from self._listen(following)
            except ClientError as error:
                following.broke(error)
            if not following.done:
                self._sleep(following.pause_seconds)

    def wait(
        self, job_id: str, *, on_event: Callable[[JobEvent], None] | None = None
    ) -> JobDetails:
        """The job as it has ended, well or not."""
        for event in self.events(job_id):
            if on_event is not None:
                on_event(event)
            if isinstance(event, JobEnded):
                return event.job
        raise AssertionError("events end with the job")

    def logs(self, job_id: str, *, tail: int | None = None) -> tuple[str, ...]:
        return tuple(self.call(calls.logs(job_id, tail)).lines)

    def cancel(self, job_id: str) -> None:
        self.call(calls.cancel(job_id))

    def artifact(self, job_id: str, kind: str = "video") -> ArtifactLink:
        return self.call(calls.artifact(job_id, kind))

    def download(
        self, job_id: str, target: str | Path, kind: str = "video", on_bytes: OnBytes | None = None
    ) -> Path:
        """The file, whole or not at all; one that broke off before goes on where it stopped."""
        target = Path(target)
        patience = self._server.patience()
        with Download(target, job_id=job_id, kind=kind, on_bytes=on_bytes) as download:
            while not download.whole:
                try:
                    link = self._once(calls.artifact(job_id, kind))
                    self._fetch(link.url, download)
                except ClientError as error:
                    if download.got_somewhere:
                        patience.renew()
                    self._sleep(patience.pause_after(error))
        return target

    def health(self) -> Health:
        return self.call(calls.health())

    def read(self, path: str, reply: type[ReplyT]) -> ReplyT:
        """Anything else that the API lets one GET."""
        return self.call(Call(path=path, reply=reply))

    def call(self, call: Call[ReplyT]) -> ReplyT:
        """Anything else that the API offers; what must not be done twice is tried once."""
        if not call.repeatable:
            return self._once(call)
        patience = self._server.patience()
        while True:
            try:
                return self._once(call)
            except ClientError as error:
                self._sleep(patience.pause_after(error))

    def _once(self, call: Call[ReplyT]) -> ReplyT:
        with reaching(self._server.host):
            response = self._http.send(self._server.request(call))
        return calls.read(call, response)

    def _listen(self, following: Following) -> Iterator[JobEvent]:
        with self._opened(self._server.stream_request(following.connect())) as response:
            if not response.is_success:
                raise error_of(response.status_code, response.headers, response.read())
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise Unreadable(response.status_code)
            for chunk in response.iter_bytes():
                yield from following.heard(chunk)
                if following.done:
                    return
        following.closed()

    def _fetch(self, url: str, download: Download) -> None:
        with self._opened(self._server.file_request(url, download.headers())) as response:
            if not response.is_success:
                content = response.read()
                raise download.refused(error_of(response.status_code, response.headers, content))
            download.begins(response.status_code, response.headers)
            # As it comes: what is gathered first is lost when the connection breaks.
            for chunk in response.iter_raw():
                download.takes(chunk)
        download.ended()

    @contextmanager
    def _opened(self, request: httpx.Request) -> Iterator[httpx.Response]:
        with reaching(request.url.netloc.decode("ascii")):
            response = self._http.send(request, stream=True)
            try:
                yield response
            finally:
                response.close()
