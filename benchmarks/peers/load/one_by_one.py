"""One job after the other, each followed to its end in one way: what a job costs when nobody else is there."""

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Literal

from peers.dialects import Dialect, Seen
from peers.load.connections import Pool

_POLL_SECONDS = 0.005

Way = Literal["poll", "stream", "hold"]


@dataclass(frozen=True)
class Followed:
    """Moments by the machine's clock, as the ledger has them."""

    prompt: str
    sent_at: float
    accepted_at: float
    seen_at: float


async def follow_one_by_one(
    pool: Pool, dialect: Dialect, *, name: str, count: int, way: Way, patience_seconds: float
) -> list[dict[str, object]]:
    """Raises ``TimeoutError`` and ``AssertionError``: with nobody else there, every job must end well."""
    found = []
    for number in range(count):
        async with asyncio.timeout(patience_seconds):
            found.append(asdict(await _follow(pool, dialect, f"{name}-{number}", way)))
    return found


async def _follow(pool: Pool, dialect: Dialect, prompt: str, way: Way) -> Followed:
    sent_at = time.monotonic()
    while (job_id := await _submitted(pool, dialect, prompt)) is None:
        # One that takes a single job may have told of its end before it is ready for the next.
        await asyncio.sleep(_POLL_SECONDS)
        sent_at = time.monotonic()
    accepted_at = time.monotonic()
    if way == "stream":
        assert dialect.events is not None
        stream = await pool.ask(dialect.events(job_id), last_event=dialect.last_event)
        assert stream.closes, stream
    elif way == "poll":
        await _poll(pool, dialect, job_id)
    return Followed(prompt, sent_at, accepted_at, time.monotonic())


async def _submitted(pool: Pool, dialect: Dialect, prompt: str) -> str | None:
    reply = await pool.ask(dialect.submit(prompt))
    return dialect.accepted(reply.status, reply.body)


async def _poll(pool: Pool, dialect: Dialect, job_id: str) -> None:
    assert dialect.status is not None
    while True:
        reply = await pool.ask(dialect.status(job_id))
        seen = dialect.seen(reply.status, reply.body)
        if seen.is_end:
            assert seen is Seen.FINISHED, (seen, reply.body[:200])
            return
        await asyncio.sleep(_POLL_SECONDS)
