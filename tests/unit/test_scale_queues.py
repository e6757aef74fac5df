"""Where queueing theory knows the answer, the simulation gives it."""

import math

import numpy as np
import pytest
from scale import scenarios
from scale.simulation import Load, simulate

JOBS = 40_000


def waits(*, servers, utilisation, service, seed=3):
    """Mean seconds in the queue, where a service takes one second on average and nothing goes wrong."""
    generator = np.random.default_rng(seed)
    arrivals = np.cumsum(generator.exponential(1 / (utilisation * servers), JOBS))
    seconds = generator.exponential(1.0, JOBS) if service == "exponential" else np.ones(JOBS)
    load = Load(arrivals=arrivals.tolist(), device_seconds=seconds.tolist(), tail_seconds=0.0)
    outcome = simulate(load, pool(servers), seed=seed)
    assert outcome.finished == JOBS
    return sum(outcome.waits) / JOBS


def pool(servers):
    return scenarios.pulled(
        servers,
        queued_at_most=scenarios.UNBOUNDED,
        start_seconds=(0.0, 0.0),
        lifetime_seconds=math.inf,
    )


def erlang_c(servers, utilisation):
    """The chance that whoever comes must wait."""
    offered = servers * utilisation
    below = sum(offered**number / math.factorial(number) for number in range(servers))
    top = offered**servers / math.factorial(servers) / (1 - utilisation)
    return top / (below + top)


@pytest.mark.parametrize("utilisation", [0.4, 0.8])
def test_one_server_with_random_services_keeps_callers_waiting_as_theory_says(utilisation):
    expected = utilisation / (1 - utilisation)
    found = waits(servers=1, utilisation=utilisation, service="exponential")
    assert found == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("utilisation", [0.4, 0.8])
def test_services_that_all_take_as_long_halve_the_wait(utilisation):
    expected = utilisation / (2 * (1 - utilisation))
    found = waits(servers=1, utilisation=utilisation, service="constant")
    assert found == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize(("servers", "utilisation"), [(2, 0.7), (30, 0.9)])
def test_many_servers_keep_callers_waiting_as_erlang_says(servers, utilisation):
    expected = erlang_c(servers, utilisation) / (servers * (1 - utilisation))
    found = waits(servers=servers, utilisation=utilisation, service="exponential")
    assert found == pytest.approx(expected, rel=0.12)


def test_more_servers_never_keep_anybody_waiting_longer():
    found = [
        waits(servers=servers, utilisation=2.4 / servers, service="exponential")
        for servers in (3, 4, 6)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[-1]
