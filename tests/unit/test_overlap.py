"""Inside the render process: one clip is finished while the next one is denoised, and no more."""

import time
from collections import Counter

import pytest

from services.gpu_worker.protocol import (
    Cancel,
    Denoised,
    Load,
    Progress,
    Ready,
    RenderCanceled,
    Rendered,
    RenderFailed,
)
from tests.unit.render_process_under_test import ENDINGS, orders, start

WITH_SCRIPTED_MODEL = """
import sys
sys.path.insert(0, ".")
from services.gpu_worker import render_process
from tests.unit import scripted_model
render_process.find_backend = lambda _name: scripted_model
sys.exit(render_process.main())
"""


@pytest.fixture
def process(tmp_path):
    with start(tmp_path, program=("-c", WITH_SCRIPTED_MODEL)) as child:
        child.send(Load(model="wan2.1-demo", model_dir=tmp_path, device="cpu", dtype="auto"))
        assert isinstance(child.next_event(), Ready)
        yield child


@pytest.fixture
def order(tmp_path):
    make = orders(tmp_path)
    return lambda prompt: make(prompt=prompt)


@pytest.fixture
def let_go(tmp_path):
    return (tmp_path / "go").touch


def has_taken_all_steps(command):
    """The last thing a clip says in its first half."""
    steps = command.steps
    return Progress(
        job_id=command.job_id,
        phase="generation",
        fraction=steps / (steps + 2),  # to be decoded and encoded
        step=steps,
        steps=steps,
    )


def is_end(event):
    return isinstance(event, ENDINGS)


def events_through(process, event):
    """The events up to and with this one."""
    events = [process.next_event()]
    while events[-1] != event:
        events.append(process.next_event())
    return events


def endings(process, number):
    """The next ones."""
    events = []
    while sum(map(is_end, events)) < number:
        events.append(process.next_event())
    return [event for event in events if is_end(event)]


def test_the_next_clip_is_denoised_while_this_one_is_finished(process, order, let_go):
    held, following = order("held"), order("fine")
    process.send(held, following)

    # If it were not, the first clip would wait for ever, and fail.
    before = events_through(process, has_taken_all_steps(following))

    assert Denoised(job_id=held.job_id) in before
    assert not any(map(is_end, before))
    let_go()
    first, second = endings(process, 2)
    assert isinstance(first, Rendered)
    assert isinstance(second, Rendered)
    assert (first.job_id, second.job_id) == (held.job_id, following.job_id)


def test_a_third_clip_waits_while_one_is_finished_and_anothers_latents_wait(process, order, let_go):
    held, waiting, third = order("held"), order("fine"), order("fine")
    process.send(held, waiting, third)
    events_through(process, has_taken_all_steps(waiting))
    time.sleep(0.3)  # in which the third one would be begun, were it to be
    let_go()

    events = events_through(process, Denoised(job_id=third.job_id))

    of_the_third = [event for event in events if event.job_id == third.job_id]
    (first_end,) = (event for event in events if event.job_id == held.job_id and is_end(event))
    assert (
        events.index(first_end)
        < events.index(Denoised(job_id=waiting.job_id))
        < events.index(of_the_third[0])
    )


def test_clips_are_denoised_one_at_a_time_in_the_order_they_came(process, order):
    commands = [order("fine") for _ in range(6)]  # the model itself refuses two at once

    process.send(*commands)
    events = []
    while sum(map(is_end, events)) < len(commands):
        events.append(process.next_event())

    job_ids = [command.job_id for command in commands]
    assert [event.job_id for event in events if isinstance(event, Denoised)] == job_ids
    assert [event.job_id for event in events if isinstance(event, Rendered)] == job_ids


def test_a_clip_canceled_while_it_is_finished_leaves_the_next_one_running(process, order):
    held, stuck = order("held"), order("stuck")
    process.send(held, stuck)
    events_through(process, has_taken_all_steps(stuck))

    process.send(Cancel(job_id=held.job_id))

    assert endings(process, 1) == [RenderCanceled(job_id=held.job_id)]
    assert [file.name for file in held.work_dir.iterdir()] == ["plan.json"]
    process.send(Cancel(job_id=stuck.job_id))  # It is still there to be canceled.
    assert endings(process, 1) == [RenderCanceled(job_id=stuck.job_id)]


def test_a_clip_canceled_while_it_is_denoised_leaves_the_one_before_running(process, order, let_go):
    held, stuck = order("held"), order("stuck")
    process.send(held, stuck)
    events_through(process, has_taken_all_steps(stuck))

    process.send(Cancel(job_id=stuck.job_id))

    assert endings(process, 1) == [RenderCanceled(job_id=stuck.job_id)]
    let_go()
    (rendered,) = endings(process, 1)
    assert isinstance(rendered, Rendered)
    assert rendered.job_id == held.job_id


def test_a_clip_canceled_while_its_latents_wait_does_not_wait_for_the_one_before(
    process, order, let_go
):
    held, waiting, third = order("held"), order("fine"), order("fine")
    process.send(held, waiting, third)
    events_through(process, has_taken_all_steps(waiting))

    process.send(Cancel(job_id=waiting.job_id))

    assert endings(process, 1) == [RenderCanceled(job_id=waiting.job_id)]
    events_through(process, has_taken_all_steps(third))  # Its place is free.
    let_go()
    assert [event.job_id for event in endings(process, 2)] == [held.job_id, third.job_id]


@pytest.mark.parametrize("broken", ["burnt", "torn"])
def test_a_clip_that_breaks_in_either_half_costs_only_itself(process, order, let_go, broken):
    commands = [order(prompt) for prompt in ("held", broken, "fine")]
    process.send(*commands)
    time.sleep(0.2)
    let_go()

    ends = {event.job_id: type(event) for event in endings(process, 3)}

    held, unlucky, fine = (command.job_id for command in commands)
    assert ends == {held: Rendered, unlucky: RenderFailed, fine: Rendered}


def test_each_clip_ends_once_however_it_ends(process, order, let_go):
    commands = [order(prompt) for prompt in ("held", "torn", "fine", "burnt", "stuck", "fine")]
    stuck, canceled = commands[4], commands[5]
    last = order("fine")
    process.send(*commands, Cancel(job_id=canceled.job_id))
    let_go()
    events = events_through(process, has_taken_all_steps(stuck))
    process.send(Cancel(job_id=stuck.job_id), Cancel(job_id=stuck.job_id), last)
    while not (is_end(events[-1]) and events[-1].job_id == last.job_id):
        events.append(process.next_event())

    ends = Counter(event.job_id for event in events if is_end(event))

    assert ends == Counter(command.job_id for command in [*commands, last])
