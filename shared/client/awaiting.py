"""`AsyncPromptreel`: the client that awaits; the same as `blocking.py` otherwise."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Self

import anyio
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


class AsyncPromptreel:
    """One server, one key. Calls raise ``ClientError``; what passes by itself is tried again."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_seconds: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        tries: int = TRIES,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """Raises ``ValueError`` for what is no address or no key."""
        self._server = Server(base_url, api_key, timeout_seconds, tries)
        self._http = httpx.AsyncClient(transport=transport)
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"AsyncPromptreel({self._server.host!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def submit(self, prompt: str, *, idempotency_key: str | None = None) -> JobAccepted:
        """A new job; with a key that was sent before, the job of then."""
        return await self.call(calls.submit(prompt, idempotency_key))

    async def get(self, job_id: str) -> JobDetails:
        return await self.call(calls.get(job_id))

    async def list(
        self,
        *,
        limit: int = 20,
        after: str | None = None,
        order: str | None = None,
        status: Status | None = None,
    ) -> JobList:
        """One page of jobs, the newest first; the next one begins ``after`` its ``last_id``."""
        return await self.call(calls.page(limit=limit, after=after, order=order, status=status))

    async def events(self, job_id: str, *, after: int = 0) -> AsyncGenerator[JobEvent, None]:
        """What becomes of the job, until it has ended; each log line after that number, once."""
        first = self._server.patience()
        following = Following(job_id, self._server.host, after=after, first=first)
        while not following.done:
            try:
                if following.polls:
                    for event in following.polled(await self._once(calls.get(job_id))):
                        yield event
                else:
                    async with aclosing(self._listen(following)) as listening:
                        async for event in listening:
                            yield event
            except ClientError as error:
                following.broke(error)
            if not following.done:
                await self._sleep(following.pause_seconds)

    async def wait(
        self, job_id: str, *, on_event: Callable[[JobEvent], None] | None = None
    ) -> JobDetails:
        """The job as it has ended, well or not."""
        async with aclosing(self.events(job_id)) as events:
            async for event in events:
                if on_event is not None:
                    on_event(event)
                if isinstance(event, JobEnded):
                    return event.job
        raise AssertionError("events end with the job")

    async def logs(self, job_id: str, *, tail: int | None = None) -> tuple[str, ...]:
        return tuple((await self.call(calls.logs(job_id, tail))).lines)

    async def cancel(self, job_id: str) -> None:
        await self.call(calls.cancel(job_id))

    async def artifact(self, job_id: str, kind: str = "video") -> ArtifactLink:
        return await self.call(calls.artifact(job_id, kind))

    async def download(
        self, job_id: str, target: str | Path, kind: str = "video", on_bytes: OnBytes | None = None
    ) -> Path:
        """The file, whole or not at all; one that broke off before goes on where it stopped."""
        target = Path(target)
        patience = self._server.patience()
        with Download(target, job_id=job_id, kind=kind, on_bytes=on_bytes) as download:
            while not download.whole:
                try:
                    link = await self._once(calls.artifact(job_id, kind))
                    await self._fetch(link.url, download)
                except ClientError as error:
                    if download.got_somewhere:
                        patience.renew()
                    await self._sleep(patience.pause_after(error))
        return target

    async def health(self) -> Health:
        return await self.call(calls.health())

    async def read(self, path: str, reply: type[ReplyT]) -> ReplyT:
        """Anything else that the API lets one GET."""
        return await self.call(Call(path=path, reply=reply))

    async def call(self, call: Call[ReplyT]) -> ReplyT:
        """Anything else that the API offers; what must not be done twice is tried once."""
        if not call.repeatable:
            return await self._once(call)
        patience = self._server.patience()
        while True:
            try:
                return await self._once(call)
            except ClientError as error:
                await self._sleep(patience.pause_after(error))

    async def _once(self, call: Call[ReplyT]) -> ReplyT:
        with reaching(self._server.host):
            response = await self._http.send(self._server.request(call))
        return calls.read(call, response)

    async def _listen(self, following: Following) -> AsyncGenerator[JobEvent, None]:
        async with self._opened(self._server.stream_request(following.connect())) as response:
            if not response.is_success:
                raise error_of(response.status_code, response.headers, await response.aread())
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise Unreadable(response.status_code)
            async for chunk in response.aiter_bytes():
                for event in following.heard(chunk):
                    yield event
                if following.done:
                    return
        following.closed()

    async def _fetch(self, url: str, download: Download) -> None:
        async with self._opened(self._server.file_request(url, download.headers())) as response:
            if not response.is_success:
                content = await response.aread()
                raise download.refused(error_of(response.status_code, response.headers, content))
            download.begins(response.status_code, response.headers)
            async for chunk in response.aiter_raw():
                download.takes(chunk)
        download.ended()

    @asynccontextmanager
    async def _opened(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        with reaching(request.url.netloc.decode("ascii")):
            response = await self._http.send(request, stream=True)
            try:
                yield response
            finally:
                await response.aclose()
