"""Plans: how many pictures a month and at once, with which models; the ledger adds up."""

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from services.emulators.replicate_script import Aborts, Fails
from tests.unit.generations_under_test import assert_refused, at_once, running_atelier

USAGE = "/api/v1/usage"


@pytest.fixture
def free(tmp_path):
    """With the plan of whoever has no other: 3 a month, 1 at once."""
    with running_atelier(tmp_path, plan="free") as atelier:
        atelier.clock.now = datetime(2026, 12, 30, 12, tzinfo=UTC)
        yield atelier


@pytest.fixture
def waiting(tmp_path):
    with running_atelier(tmp_path, plan="free", seconds=None) as atelier:
        yield atelier


def test_a_month_has_so_many_pictures_and_the_next_one_as_many_again(free):
    for used in (1, 2, 3):
        free.made()
        assert free.used() == used
    refused = free.order()
    assert_refused(refused, 429, "LIMIT_EXCEEDED", "At most 3 images a month")
    until_january = (datetime(2027, 1, 1, tzinfo=UTC) - free.clock.now).total_seconds()
    assert int(refused.headers["Retry-After"]) == until_january
    assert free.client.get(USAGE).json() == {
        "plan": "free",
        "month": "2026-12",
        "limit": 3,
        "used": 3,
        "remaining": 0,
        "resetsAt": "2027-01-01T00:00:00Z",
    }

    free.clock.advance(until_january - 1)
    assert_refused(free.order(), 429, "LIMIT_EXCEEDED")
    free.clock.advance(1)
    assert free.client.get(USAGE).json()["month"] == "2027-01"
    assert free.client.get(USAGE).json()["remaining"] == 3
    free.made()
    assert free.used() == 1


def test_what_is_given_back_in_the_next_month_is_no_present_for_that(tmp_path):
    with running_atelier(tmp_path, plan="free", seconds=None) as atelier:
        atelier.clock.now = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
        atelier.provider.script.hang_up("create", after=False)
        generation = atelier.ordered()
        assert atelier.used() == 1
        atelier.clock.advance(3600)
        assert atelier.read(generation)["status"] == "failed"
        assert atelier.used() == 0
        store = atelier.api.wiring.store
        assert (store.used("ada", "2026-12"), store.used("ada", "2027-01")) == (0, 0)


def test_a_retry_of_what_was_accepted_is_never_refused(free):
    first = free.order(key="k").json()
    free.wait_for(first, "succeeded")
    for _ in range(2):
        free.made()
    assert free.order(key="k").json()["id"] == first["id"]
    assert_refused(free.order(key="other"), 429, "LIMIT_EXCEEDED")


def test_one_in_flight_blocks_the_next_until_it_has_ended(waiting):
    first = waiting.ordered()
    refused = waiting.order()
    assert_refused(refused, 429, "TOO_MANY_INFLIGHT", "1 of your images")
    assert int(refused.headers["Retry-After"]) > 0
    assert waiting.used() == 1
    with waiting.client_of("bob") as bob:
        assert bob.post("/api/v1/generations", json={"prompt": "x"}).status_code == 202
    waiting.client.patch(f"/api/v1/generations/{first['id']}", json={"action": "cancel"})
    assert waiting.order().status_code == 202


def test_of_twenty_at_once_one_comes_in(waiting):
    replies = at_once(20, lambda _: waiting.order())
    assert sorted(reply.status_code for reply in replies) == [202] + [429] * 19
    assert (waiting.jobs(), waiting.used(), len(waiting.orders())) == (1, 1, 1)


def test_videos_are_no_pictures(waiting):
    for _ in range(3):
        assert waiting.client.post("/v1/jobs", json={"prompt": "a boat"}).status_code == 202
    assert waiting.order().status_code == 202
    assert waiting.used() == 1


def test_what_never_ran_makes_room_again(free):
    free.provider.script.next(Aborts())
    free.wait_for(free.ordered(), "canceled")
    free.provider.script.next(Fails(before_running=True))
    free.wait_for(free.ordered(), "failed")
    free.provider.script.fail("create", 503)
    assert free.order().status_code == 502
    assert free.used() == 0
    for _ in range(3):
        free.made()
    assert_refused(free.order(), 429, "LIMIT_EXCEEDED")


def test_a_plan_names_its_models(tmp_path):
    with running_atelier(tmp_path, plan="free") as atelier:
        reply = atelier.order(model="gemini-2.5-flash-image")
        assert_refused(reply, 400, "VALIDATION_ERROR", "Your plan has google/nano-banana")


def test_an_owner_has_the_plan_that_is_configured_and_others_the_free_one(tmp_path):
    with running_atelier(tmp_path, plan="pro") as atelier:
        assert atelier.client.get(USAGE).json()["plan"] == "pro"
        with atelier.client_of("bob") as bob:
            assert bob.get(USAGE).json() | {"resetsAt": ""} == {
                "plan": "free",
                "month": f"{atelier.clock.now:%Y-%m}",
                "limit": 3,
                "used": 0,
                "remaining": 3,
                "resetsAt": "",
            }


def test_every_step_is_logged_with_ids_and_nothing_else_of_the_caller(free):
    with capture_logs() as lines:
        free.made(prompt="my secret wedding picture")
    told = {line["event"]: line for line in lines}
    for event in ("generation submitted", "usage debited", "webhook processed", "generation ended"):
        assert {"ownerId", "jobId", "predictionId", "status"} <= set(told[event]), event
    assert told["generation ended"]["status"] == "finished"
    assert "wedding" not in repr(lines)
