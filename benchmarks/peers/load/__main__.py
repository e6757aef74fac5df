"""One piece of load: told as JSON on stdin, answered as JSON on stdout.

    echo '{"task": "poll", …}' | python -m peers.load

The answer says what share of a core this process took, so that nobody takes it for the server.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict
from typing import Any

from peers.dialects import Dialect, dialect_of
from peers.load.at_rate import submit_at_rate
from peers.load.connections import Pool
from peers.load.crowd import Crowd, pushes_taken
from peers.load.one_by_one import follow_one_by_one
from peers.load.polling import poll, store_jobs
from peers.load.schedule import accepted_per_second, arrivals

Told = dict[str, Any]


async def _at_rate(pool: Pool, dialect: Dialect, told: Told) -> Told:
    schedule = arrivals(
        told["rate_per_second"],
        seconds=told["rate_seconds"],
        warm_up_seconds=told["warm_up_seconds"],
    )
    sent = await submit_at_rate(
        pool, dialect, schedule, name=told["name"], patience_seconds=told["patience_seconds"]
    )
    measured = [each for each in sent if not each.due.is_warm_up]
    accepted = [each for each in measured if each.accepted]
    return {
        "asked": len(measured),
        "accepted": len(accepted),
        "broken": sum(each.broken for each in measured),
        "accepted_per_second": accepted_per_second(sent, seconds=told["rate_seconds"]),
        "latencies_seconds": [round(each.latency_seconds, 6) for each in accepted],
        "late_seconds": [round(each.late_seconds, 6) for each in measured],
    }


async def _one_by_one(pool: Pool, dialect: Dialect, told: Told) -> Told:
    jobs = await follow_one_by_one(
        pool,
        dialect,
        name=told["name"],
        count=told["count"],
        way=told["way"],
        patience_seconds=told["patience_seconds"],
    )
    return {"jobs": jobs}


async def _store(pool: Pool, dialect: Dialect, told: Told) -> Told:
    ids = await store_jobs(
        pool,
        dialect,
        name=told["name"],
        count=told["count"],
        at_once=told["at_once"],
        seconds=told["seconds"],
    )
    return {"ids": ids}


async def _poll(pool: Pool, dialect: Dialect, told: Told) -> Told:
    await poll(pool, dialect, told["ids"], clients=told["clients"], seconds=told["warm_up_seconds"])
    found = await poll(pool, dialect, told["ids"], clients=told["clients"], seconds=told["seconds"])
    return asdict(found)


async def _crowd(pool: Pool, dialect: Dialect, told: Told) -> Told:
    crowd = Crowd(pool, dialect, until=time.monotonic() + told["seconds"])
    if dialect.answers == "pushed":
        async with pushes_taken(told["callback_port"], crowd):
            witnessed = await crowd.see_through(told["name"], told["count"])
    else:
        witnessed = await crowd.see_through(told["name"], told["count"])
    return {"jobs": [asdict(each) for each in witnessed]}


_TASKS = {
    "at_rate": _at_rate,
    "one_by_one": _one_by_one,
    "store": _store,
    "poll": _poll,
    "crowd": _crowd,
}


async def _answer(told: Told) -> Told:
    dialect = dialect_of(told["dialect"], key=told["key"], callback_url=told["callback_url"])
    began = time.monotonic()
    async with Pool("127.0.0.1", told["port"]) as pool:
        answer = await _TASKS[told["task"]](pool, dialect, told)
    return answer | {"cpu_share": round(time.process_time() / (time.monotonic() - began), 3)}


def main() -> None:
    json.dump(asyncio.run(_answer(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
