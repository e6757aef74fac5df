"""A provider that does not call back is asked: by whoever reads, and by the sweep."""

from functools import partial

import pytest

from services.emulators.replicate_script import NeverEnds
from shared.images.transitions import cancel
from shared.ledger import month_of
from tests.unit.generations_under_test import (
    GENERATIONS,
    PROMPT,
    at_once,
    picture,
    running_atelier,
)


@pytest.fixture
def atelier(tmp_path):
    """Whose provider calls nobody back, and is done the second time it is asked."""
    with running_atelier(tmp_path, webhooks=False, seconds=None, polls=1) as atelier:
        yield atelier


def polls(atelier):
    return len([asked for asked in atelier.provider.asked if asked.call == "read"])


def test_whoever_reads_early_asks_nobody(atelier):
    generation = atelier.ordered()
    for _ in range(3):
        atelier.read(generation)
    assert polls(atelier) == 0


def test_a_stale_one_is_asked_about_once_and_then_left_alone_for_a_while(atelier):
    generation = atelier.ordered()
    atelier.clock.advance(5)
    assert atelier.read(generation)["status"] == "processing"
    atelier.read(generation)
    assert polls(atelier) == 1
    atelier.clock.advance(5)
    seen = atelier.read(generation)
    assert polls(atelier) == 2
    assert (seen["status"], len(seen["variants"])) == ("succeeded", 1)
    atelier.clock.advance(60)
    atelier.read(generation)
    assert polls(atelier) == 2, "it has ended"


def test_many_who_read_at_once_ask_once(atelier):
    generation = atelier.ordered()
    atelier.clock.advance(5)
    at_once(20, lambda _: atelier.read(generation))
    assert polls(atelier) == 1


def test_a_provider_that_does_not_answer_leaves_it_as_it_is(atelier):
    generation = atelier.ordered()
    atelier.provider.script.fail("read", 500, count=20)
    atelier.clock.advance(5)
    assert atelier.read(generation)["status"] == generation["status"]


def test_one_that_the_provider_has_lost_has_failed(atelier):
    generation = atelier.ordered()
    atelier.provider.script.fail("read", 404)
    atelier.clock.advance(5)
    seen = atelier.read(generation)
    assert (seen["status"], seen["error"]["code"]) == ("failed", "UPSTREAM_ERROR")


def test_one_that_takes_too_long_fails_clearly_and_is_stopped(tmp_path):
    with running_atelier(tmp_path, seconds=None, polls=None) as atelier:
        atelier.provider.script.next(NeverEnds())
        generation = atelier.ordered()
        atelier.provider.predictions.start(generation["predictionId"])
        atelier.wait_for(generation, "processing")
        atelier.clock.advance(599)
        assert atelier.read(generation)["status"] == "processing"
        atelier.clock.advance(1)
        seen = atelier.read(generation)
        assert seen["status"] == "failed"
        assert "did not finish within 600 s" in seen["error"]["message"]
        assert atelier.provider.predictions.read(generation["predictionId"])["status"] == "canceled"


def test_the_sweep_asks_about_those_nobody_reads(atelier):
    generation = atelier.ordered()
    sweep = atelier.api.wiring.lifecycle.sweep
    assert sweep().asked == 0
    for _ in range(2):
        atelier.clock.advance(61)
        assert sweep().asked == 1
    assert polls(atelier) == 2
    assert atelier.read(generation)["status"] == "succeeded"


def test_the_sweep_gives_up_what_nobody_reads(tmp_path):
    with running_atelier(tmp_path, seconds=None, polls=None) as atelier:
        atelier.provider.script.hang_up("create", after=False)
        generation = atelier.ordered()
        atelier.clock.advance(601)
        atelier.api.wiring.lifecycle.sweep()
        job = atelier.api.wiring.store.get(generation["id"])
        assert job.status == "failed"
        assert atelier.used() == 0


def test_the_sweep_brings_home_what_was_left_half_way(atelier):
    generation = atelier.ordered()
    atelier.provider.script.fail("file", 503, count=4)
    atelier.clock.advance(5)
    atelier.read(generation)
    atelier.clock.advance(5)
    atelier.read(generation)
    assert atelier.stored("public") == []
    atelier.clock.advance(61)
    atelier.api.wiring.lifecycle.sweep()
    assert atelier.read(generation)["status"] == "succeeded"


def test_the_sweep_removes_what_an_ended_one_started_from_if_nobody_else_has(atelier):
    reply = atelier.client.post(
        GENERATIONS, data={"prompt": PROMPT}, files={"input1": ("mine.png", picture())}
    )
    # Whoever stored this end was killed before it could remove anything.
    end = partial(cancel, now=atelier.clock.now)
    atelier.api.wiring.store.update(reply.json()["id"], end)
    assert len(atelier.stored("private")) == 1
    atelier.clock.advance(61)
    atelier.api.wiring.lifecycle.sweep()
    assert atelier.stored("private") == []


def test_a_forgotten_picture_leaves_nothing_but_its_entry_in_the_ledger(atelier):
    generation, month = atelier.ordered(), month_of(atelier.clock.now)
    for _ in range(2):
        atelier.clock.advance(5)
        atelier.read(generation)
    sweep = atelier.api.wiring.lifecycle.sweep
    for _ in range(3):
        atelier.clock.advance(31 * 24 * 3600)
        sweep()
    reply = atelier.client.get(f"{GENERATIONS}/{generation['id']}")
    assert reply.status_code == 404
    assert (atelier.stored("public"), atelier.stored("private")) == ([], [])
    assert atelier.api.wiring.store.used("ada", month) == 1
