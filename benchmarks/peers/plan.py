"""How much is measured: enough to tell the services apart within 40 minutes, or just enough to try them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# Who is killed: the process that accepts, who renders, or everything at once, the store among it.
Victim = Literal["server", "worker", "everything"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    delay_seconds: float = 0.2  # that a render takes
    rounds: int = 3  # in each, every service in turn, so that what changes meanwhile meets all
    jobs: int = 10  # one after the other, a round, by each way to follow them
    rates_per_second: Sequence[int] = (10, 50, 200)
    rate_seconds: float = 5.0
    warm_up_seconds: float = 1.0
    stored: Sequence[int] = (1, 100, 10_000)
    store_seconds: float = 60.0  # for storing them; who is slower is polled with fewer
    poll_seconds: float = 3.0
    poll_stretches: int = 3
    poll_clients: int = 8
    victims: Sequence[Victim] = ("server", "worker", "everything")
    fault_jobs: int = 20
    fault_seconds: float = 75.0  # whatever has not ended then is stuck


QUICK = Plan(
    rounds=1,
    jobs=2,
    rates_per_second=(10, 50),
    rate_seconds=1.0,
    warm_up_seconds=0.2,
    stored=(1, 20),
    store_seconds=5.0,
    poll_seconds=0.5,
    poll_stretches=1,
    victims=("server",),
    fault_jobs=6,
    fault_seconds=20.0,
)
