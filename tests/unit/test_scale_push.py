"""What pushes, back-off, deadlines and instances do to single jobs, worked out by hand."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from scale import scenarios
from scale.simulation import Load, simulate

START = 10.0  # seconds a machine takes to be ready, exactly
RENDER = 30.0
TAIL = 2.0


def calm(*, subscription=None, service=None, worker=None, rules=None, **kinds):
    """As terraform makes it, but for chance: every start takes as long, back-off does not jitter."""
    made = scenarios.pushed(**kinds)
    return replace(
        made,
        rules=replace(made.rules, **(rules or {})),
        subscription=replace(made.subscription, backoff_jitter=0.0, **(subscription or {})),
        service=replace(
            made.service,
            **{"start_seconds": (START, START), "lifetime_seconds": math.inf} | (service or {}),
        ),
        worker=replace(made.worker, **(worker or {})),
    )


def run(installation, arrivals, *, render=RENDER):
    load = Load(arrivals=arrivals, device_seconds=[render] * len(arrivals), tail_seconds=TAIL)
    outcome = simulate(load, installation, seed=1)
    assert sum(outcome.ends.values()) + outcome.refused == len(arrivals)
    return outcome


def test_the_first_job_waits_for_a_machine_and_the_next_one_does_not():
    assert run(calm(), [0.0, 100.0]).waits == [START, 0.0]


def test_a_machine_is_paid_for_while_it_starts_works_and_idles():
    outcome = run(calm(), [0.0, 100.0, 2000.0])

    # Until 132 s for two clips; 15 idle minutes; from 2000 s another start, clip and upload.
    assert outcome.starting_seconds == 2 * START
    assert outcome.busy_seconds == 3 * RENDER
    assert outcome.starts == 2
    first = 100 + RENDER + TAIL + scenarios.known.IDLE.value
    assert outcome.instance_seconds == pytest.approx(first + START + RENDER + TAIL, abs=60)


def test_a_job_that_comes_while_another_is_rendered_waits_for_its_turn_there():
    outcome = run(calm(service={"autoscaler_seconds": 1e9}), [0.0, 20.0])
    assert outcome.waits == [START, START + RENDER - 20]
    assert outcome.starts == 1


def test_one_request_an_instance_starts_another_machine_instead():
    outcome = run(calm(max_instances=2, concurrency=1), [0.0, 20.0])
    assert outcome.waits == [START, START]
    assert outcome.starts == 2


def test_who_stands_in_line_too_long_is_given_back_and_comes_again_after_the_back_off():
    installation = calm(service={"autoscaler_seconds": 1e9}, subscription={"window_at_first": 4.0})
    outcome = run(installation, [0.0, 0.0, 0.0, 0.0])

    # Begun at 10 and 40 s; the two others are given back at 60, pushed again at 70: just then it is free.
    assert outcome.failed_deliveries == 2
    assert outcome.waits == pytest.approx([START, START + RENDER, 70, 100])


STEADY = {"window_lost_by_failure": 0.0}  # Pub/Sub goes on pushing, whatever fails


def test_no_instance_and_no_place_is_429_and_the_back_off_doubles():
    outcome = run(calm(concurrency=1, subscription=STEADY), [0.0, 0.0, 0.0], render=500.0)

    # Two wait 20 s while the machine starts, then 10 s each time, and back off 10, 20, 40, 80, 160 and 320 s:
    # to 700 s, when one of them finds the machine free. The other one does after 10 and 600 s more.
    assert outcome.waits == pytest.approx([START, 700, 1310])
    assert outcome.failed_deliveries == 6 + 7
    assert outcome.most_instances == 1


def test_a_window_that_failures_have_narrowed_sends_nothing_into_a_full_house():
    outcome = run(calm(concurrency=1), [0.0, 0.0, 0.0], render=500.0)
    assert outcome.failed_deliveries == 3
    assert outcome.waits == pytest.approx([START, 512, 1014])


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (6, 320), (7, 600), (19, 600)])
def test_the_back_off_doubles_up_to_its_most(failures, seconds):
    assert scenarios.subscription().backoff_seconds(failures) == pytest.approx(seconds)


def test_a_message_lives_as_long_as_its_back_offs():
    subscription = scenarios.subscription()
    assert subscription.patience_seconds == pytest.approx(10 + 20 + 40 + 80 + 160 + 320 + 93 * 600)
    assert replace(subscription, max_deliveries=5).patience_seconds == pytest.approx(150)


def test_a_message_delivered_too_often_fails_its_job_at_the_next_sweep():
    installation = calm(concurrency=1, subscription=STEADY | {"max_deliveries": 3})
    outcome = run(installation, [0.0, 1.0], render=500.0)

    # Told 429 at 21, 41 and 71 s; the sweep of the second minute hears of it.
    assert Counter(outcome.ends) == {"finished": 1, "undeliverable": 1}
    assert outcome.dead_letters == 1


def test_a_push_that_takes_longer_than_its_deadline_is_pushed_again_and_still_ends_once():
    installation = calm(subscription={"ack_deadline_seconds": 20.0})
    outcome = run(installation, [0.0])
    assert outcome.ends == {"finished": 1}
    assert (outcome.attempts, outcome.deliveries, outcome.failed_deliveries) == (1, 2, 1)


def test_a_render_beyond_the_models_limit_fails_three_times_and_is_paid_for_each_time():
    outcome = run(calm(), [0.0], render=1000.0)
    assert outcome.ends == {"render_timed_out": 1}
    assert outcome.attempts == 3
    assert outcome.busy_seconds == 3 * scenarios.MODEL.max_render_seconds


def test_the_window_starts_small_and_grows_with_every_success():
    narrow = calm(max_instances=20, concurrency=1, subscription={"window_at_first": 1.0})
    wide = calm(max_instances=20, concurrency=1, subscription={"window_at_first": 20.0})
    arrivals = [0.0] * 20
    assert run(wide, arrivals).most_requests == 20
    assert run(narrow, arrivals).most_requests < 20
    assert sum(run(narrow, arrivals).waits) > sum(run(wide, arrivals).waits)


def test_a_full_queue_refuses_and_loses_nothing_it_has_accepted():
    outcome = run(calm(rules={"queued_at_most": 5}), [0.0] * 12)
    assert outcome.refused > 0
    assert outcome.finished == 12 - outcome.refused


def test_a_worker_that_dies_costs_its_job_an_attempt_and_the_time_of_its_lease():
    made = calm(service={"lifetime_seconds": 1e-9})
    once = replace(made.rules, max_attempts=2)
    outcome = run(replace(made, rules=once), [0.0])

    # Every machine dies in the moment in which it has begun: twice, and the sweep says that it was lost.
    assert outcome.ends == {"worker_lost": 1}
    assert outcome.attempts == 2
    assert outcome.busy_seconds == pytest.approx(0.0, abs=1e-6)
