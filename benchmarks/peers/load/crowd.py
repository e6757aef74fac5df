"""Many jobs at once, each seen through to its end while the service is hurt: what a stubborn client sees.

Who is refused asks again; who was accepted waits, and never submits the job a second time: if it is
lost, it is lost.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from peers.accounting import Job
from peers.dialects import Dialect, Seen
from peers.load.connections import Broken, Pool

_AGAIN_SECONDS = 0.05
_POLL_SECONDS = 0.1
# A service that pushes has no queue: what it has not told of so long after it took it in will not come.
_PUSH_SECONDS = 15.0


class Crowd:
    def __init__(self, pool: Pool, dialect: Dialect, *, until: float) -> None:
        """``until``: a moment at which nobody waits any longer."""
        self._pool = pool
        self._dialect = dialect
        self._until = until
        self._pushed: dict[str, Seen] = {}
        self._has_come = asyncio.Event()

    async def see_through(self, name: str, count: int) -> list[Job]:
        see = {"polled": self._polled, "pushed": self._pushed_to, "held": self._held}
        one = see[self._dialect.answers]
        return await asyncio.gather(*(one(f"{name}-{number}") for number in range(count)))

    def take(self, body: bytes) -> None:
        """What the service has pushed."""
        assert self._dialect.pushed is not None
        job_id, seen = self._dialect.pushed(body)
        self._pushed[job_id] = seen
        self._has_come.set()
        self._has_come = asyncio.Event()

    async def _polled(self, prompt: str) -> Job:
        job_id, accepted_at = await self._submit(prompt)
        if job_id is None:
            return Job(prompt, None, None, Seen.UNKNOWN)
        assert self._dialect.status is not None
        while time.monotonic() < self._until:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                reply = await self._pool.ask(self._dialect.status(job_id))
            except Broken:
                continue
            seen = self._dialect.seen(reply.status, reply.body)
            if seen.is_end:
                return Job(prompt, accepted_at, time.monotonic(), seen)
        return Job(prompt, accepted_at, None, Seen.WAITING)

    async def _pushed_to(self, prompt: str) -> Job:
        job_id, accepted_at = await self._submit(prompt)
        if job_id is None or accepted_at is None:
            return Job(prompt, None, None, Seen.UNKNOWN)
        patience = min(accepted_at + _PUSH_SECONDS, self._until)
        while not self._pushed.get(job_id, Seen.WAITING).is_end:
            try:
                async with asyncio.timeout(max(patience - time.monotonic(), 0.0)):
                    await self._has_come.wait()
            except TimeoutError:
                return Job(prompt, accepted_at, time.monotonic(), Seen.UNKNOWN)
        return Job(prompt, accepted_at, time.monotonic(), self._pushed[job_id])

    async def _held(self, prompt: str) -> Job:
        """A request that breaks is a job that is lost; at least its client knows."""
        began_at = time.monotonic()
        while time.monotonic() < self._until:
            try:
                reply = await self._pool.ask(self._dialect.submit(prompt))
            except Broken:
                return Job(prompt, began_at, time.monotonic(), Seen.UNKNOWN)
            ended_at = time.monotonic()
            if self._dialect.accepted(reply.status, reply.body) is not None:
                return Job(prompt, began_at, ended_at, Seen.FINISHED)
            return Job(prompt, began_at, ended_at, Seen.FAILED)
        return Job(prompt, None, None, Seen.UNKNOWN)

    async def _submit(self, prompt: str) -> tuple[str | None, float | None]:
        """Until it is accepted; nobody knows what became of a submission whose reply broke off."""
        while time.monotonic() < self._until:
            try:
                reply = await self._pool.ask(self._dialect.submit(prompt))
            except Broken:
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            job_id = self._dialect.accepted(reply.status, reply.body)
            if job_id is not None:
                return job_id, time.monotonic()
            await asyncio.sleep(_AGAIN_SECONDS)
        return None, None


@asynccontextmanager
async def pushes_taken(port: int, crowd: Crowd) -> AsyncIterator[None]:
    """A receiver of pushes at 127.0.0.1, for as long as the context lasts."""

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").lower().split("\r\n")
                lengths = [
                    line.partition(":")[2] for line in lines if line.startswith("content-length")
                ]
                crowd.take(await reader.readexactly(int(lengths[0])))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, json.JSONDecodeError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", port, limit=2**20)
    async with server:
        yield
