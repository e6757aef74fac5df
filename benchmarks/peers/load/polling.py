"""Jobs stored, and then asked for by clients who ask again as soon as they are answered."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from peers.dialects import Dialect
from peers.load.connections import Broken, Pool

_OK = 200


async def store_jobs(
    pool: Pool, dialect: Dialect, *, name: str, count: int, at_once: int, seconds: float
) -> list[str]:
    """The ids of as many jobs as were wanted, or as could be submitted in the time."""
    ids: list[str] = []
    numbers = iter(range(count))
    until = time.monotonic() + seconds

    async def submit() -> None:
        for number in numbers:
            if time.monotonic() >= until:
                return
            reply = await pool.ask(dialect.submit(f"{name}-{number}"))
            job_id = dialect.accepted(reply.status, reply.body)
            assert job_id is not None, (reply.status, reply.body[:200])
            ids.append(job_id)

    await asyncio.gather(*(submit() for _ in range(at_once)))
    return ids


@dataclass(frozen=True)
class Polled:
    """What one stretch of polling came to; ``failed`` are other answers than 200, or none."""

    seconds: float
    latencies_seconds: Sequence[float]
    failed: int


async def poll(
    pool: Pool, dialect: Dialect, ids: Sequence[str], *, clients: int, seconds: float
) -> Polled:
    """Each client has jobs of its own, in turn, as far as there are enough."""
    assert dialect.status is not None
    latencies: list[float] = []
    failed = 0
    began = time.monotonic()

    async def client(number: int) -> None:
        nonlocal failed
        own = list(islice(ids, number, None, clients)) or list(ids)
        for job_id in cycle(own):
            asked_at = time.monotonic()
            if asked_at - began >= seconds:
                return
            try:
                reply = await pool.ask(dialect.status(job_id))
            except Broken:
                failed += 1
                continue
            latencies.append(time.monotonic() - asked_at)
            failed += reply.status != _OK

    await asyncio.gather(*(client(number) for number in range(clients)))
    return Polled(time.monotonic() - began, latencies, failed)
