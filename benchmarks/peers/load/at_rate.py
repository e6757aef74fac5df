"""Submissions at a fixed rate, come what may."""

import asyncio
from collections.abc import Sequence

from peers.dialects import Dialect
from peers.load.connections import Broken, Pool
from peers.load.schedule import Due, Sent

# Before the first one is due.
_HEAD_START_SECONDS = 0.1


async def submit_at_rate(
    pool: Pool, dialect: Dialect, schedule: Sequence[Due], *, name: str, patience_seconds: float
) -> Sequence[Sent]:
    """One result a request of the schedule; whoever is not answered in time counts as broken."""
    loop = asyncio.get_running_loop()
    began = loop.time() + _HEAD_START_SECONDS

    async def submit(due: Due, number: int) -> Sent:
        sent_at = loop.time() - began
        accepted = broken = False
        try:
            async with asyncio.timeout(patience_seconds):
                reply = await pool.ask(dialect.submit(f"{name}-{number}"))
            accepted = dialect.accepted(reply.status, reply.body) is not None
        except (Broken, TimeoutError):
            broken = True
        return Sent(due, sent_at, loop.time() - began, accepted, broken)

    sending: list[asyncio.Task[Sent]] = []
    for number, due in enumerate(schedule):
        pause = began + due.at_seconds - loop.time()
        if pause > 0:
            await asyncio.sleep(pause)
        sending.append(asyncio.create_task(submit(due, number)))
    return await asyncio.gather(*sending)
