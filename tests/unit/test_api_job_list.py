from collections import Counter
from dataclasses import replace

import pytest

from services.api.app import create_app
from services.api.keys.ring import KeyRing
from services.api.keys.sources import KeyFile
from services.api.paces import Paces
from shared.errors import PromptRefused, StoreUnavailable
from shared.job import JobStatus, Phase
from shared.prices import L4_PRICE
from tests.jobs import picture_job
from tests.unit.api_under_test import assert_error, running_api


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


def submit(api, count=1):
    """Ids, oldest first, a second apart."""
    made = []
    for _ in range(count):
        made.append(api.submit())
        api.clock.advance(1)
    return made


def listed(api, **query):
    reply = api.client.get("/v1/jobs", query_string=query)
    assert reply.status_code == 200, reply.text
    return reply.json


def ids(api, **query):
    return [job["id"] for job in listed(api, **query)["data"]]


# --- pages


def test_a_list_has_your_jobs_newest_first_as_each_is_read_alone(api):
    made = submit(api, 3)
    api.worker.render_next()
    page = listed(api)
    assert [job["id"] for job in page["data"]] == made[::-1]
    assert page["data"] == [api.client.get(f"/v1/jobs/{job_id}").json for job_id in made[::-1]]
    assert (page["has_more"], page["last_id"]) == (False, made[0])


def test_pages_follow_each_other_in_either_order(api):
    made = submit(api, 5)
    for order, expected in (("desc", made[::-1]), ("asc", made)):
        first = listed(api, limit=3, order=order)
        assert [job["id"] for job in first["data"]] == expected[:3]
        assert (first["has_more"], first["last_id"]) == (True, expected[2])
        second = listed(api, limit=3, order=order, after=first["last_id"])
        assert [job["id"] for job in second["data"]] == expected[3:]
        assert (second["has_more"], second["last_id"]) == (False, expected[4])


def test_twenty_jobs_are_a_page_unless_it_says_otherwise(api):
    submit(api, 21)
    assert len(listed(api)["data"]) == 20
    assert len(listed(api, limit=100)["data"]) == 21
    assert len(listed(api, limit=1)["data"]) == 1


def test_who_has_no_jobs_gets_an_empty_page(api):
    assert listed(api) == {"data": [], "has_more": False, "last_id": None}


def test_neither_pictures_nor_other_owners_jobs_are_in_it(api):
    api.wiring.store.admit(picture_job(id="job_p", owner="ada"))
    api.stranger.post("/v1/jobs", json={"prompt": "theirs"})
    assert ids(api) == []


# --- by status


def test_a_deleted_video_is_not_in_it_and_takes_nobodys_place(api):
    kept, deleted, newest = submit(api, 3)
    assert api.client.delete(f"/v1/videos/{deleted}").status_code == 200
    page = api.client.get("/v1/jobs?limit=2").json
    assert [job["id"] for job in page["data"]] == [newest, kept]
    assert page["has_more"] is False


def test_a_list_may_be_of_some_statuses(api):
    queued, canceled, finished = submit(api, 3)
    api.client.post(f"/v1/jobs/{canceled}/cancel")
    api.wiring.store.update(finished, lambda job: replace(job, status=JobStatus.FINISHED))
    assert ids(api, status="finished") == [finished]
    assert ids(api, status="finished,queued") == [finished, queued]
    assert ids(api, status="canceled, queued") == [canceled, queued]
    assert ids(api, status=["finished", "canceled,queued"]) == [finished, canceled, queued]
    assert ids(api, status=["failed"]) == []


@pytest.mark.parametrize("status", ["done", "", "queued,", "QUEUED", "finished;queued"])
def test_a_status_that_there_is_not_is_400_and_says_which_there_are(api, status):
    reply = api.client.get("/v1/jobs", query_string={"status": status})
    assert_error(reply, 400, "invalid_request", *(known.value for known in JobStatus))
    assert reply.json["error"]["field"] == "status"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("limit", value) for value in ("0", "-1", "101", "all", "1.5", "", "9" * 5000)),
        *(("order", value) for value in ("up", "", "DESC")),
    ],
)
def test_a_limit_or_an_order_that_there_is_not_is_400(api, field, value):
    reply = api.client.get("/v1/jobs", query_string={field: value})
    assert_error(reply, 400, "invalid_request", field)


def test_after_a_job_that_is_not_yours_there_is_nothing_to_be_found(api):
    theirs = api.stranger.post("/v1/jobs", json={"prompt": "theirs"}).json["id"]
    api.wiring.store.admit(picture_job(id="job_p", owner="ada"))
    for after in (theirs, "job_p", f"job_{'0' * 32}", "..", "a/b", "\0"):
        reply = api.client.get("/v1/jobs", query_string={"after": after})
        assert_error(reply, 404, "job_not_found", "Check the id")


def test_while_the_store_is_silent_it_is_503(api):
    reply = api.with_silent("store", StoreUnavailable).get("/v1/jobs")
    assert_error(reply, 503, "store_unavailable")
    assert reply.headers["Retry-After"]


# --- what may be expected of a job


def test_who_waits_knows_its_place_among_all_that_wait_for_the_model(api):
    mine = submit(api, 1)
    api.stranger.post("/v1/jobs", json={"prompt": "theirs"})
    api.clock.advance(1)
    mine += submit(api, 2)
    assert [job["queue_position"] for job in listed(api, order="asc")["data"]] == [1, 3, 4]
    api.worker.claim_next()
    assert [job["queue_position"] for job in listed(api, order="asc")["data"]] == [None, 2, 3]
    assert api.client.get(f"/v1/jobs/{mine[2]}").json["queue_position"] == 3


def test_who_waits_is_told_by_the_pace_of_the_last_ten_minutes(api):
    waiting = submit(api, 4)
    assert listed(api)["data"][0]["estimated_seconds_left"] is None
    for _ in range(2):
        api.worker.render_next()
    api.clock.advance(1)  # the pace is measured once a second
    estimates = [job["estimated_seconds_left"] for job in listed(api, order="asc")["data"]]
    assert estimates == [None, None, 300, 600]
    api.clock.advance(601)
    assert api.client.get(f"/v1/jobs/{waiting[3]}").json["estimated_seconds_left"] is None


def test_a_running_job_is_told_by_its_own_progress(api):
    (job_id,) = submit(api)
    job = api.worker.claim_next()
    api.clock.advance(20)
    report = api.wiring.lifecycle.report
    report(job_id, token=job.lease.token, phase=Phase.KEYFRAMES, fraction=0.5)
    assert listed(api)["data"][0]["estimated_seconds_left"] is None
    report(job_id, token=job.lease.token, phase=Phase.GENERATION, fraction=0.25)
    (running,) = listed(api)["data"]
    assert (running["progress"], running["estimated_seconds_left"]) == (25, 60)


def test_a_finished_job_says_what_it_has_cost_where_the_price_is_known(api):
    job_id = api.finished()
    assert listed(api)["data"][0]["cost_usd"] is None
    api.wiring.store.update(
        job_id, lambda job: replace(job, summary=replace(job.summary, device=L4_PRICE.device))
    )
    assert listed(api)["data"][0]["cost_usd"] == pytest.approx(1.5 * L4_PRICE.usd_a_second)


def test_a_failed_job_in_the_list_says_why(api):
    submit(api)
    api.worker.fail_next(PromptRefused("The model refused the prompt. Rephrase it."))
    (failed,) = listed(api)["data"]
    assert failed["error"]["code"] == "prompt_refused"


def test_a_page_asks_the_store_no_oftener_than_a_job_does(api):
    class Counting:
        def __getattr__(self, name):
            asked[name] += 1
            return getattr(api.wiring.store, name)

    asked = Counter()
    submit(api, 7)
    store = Counting()
    lifecycle = replace(api.wiring.lifecycle, store=store)
    wiring = replace(api.wiring, store=store, lifecycle=lifecycle)
    client = create_app(wiring, KeyRing(KeyFile(api.key_file))).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api.key}"
    client.get("/v1/jobs")  # notes that the key is used, now and then
    asked.clear()
    api.clock.advance(1)
    assert len(client.get("/v1/jobs").json["data"]) == 7
    assert asked == {"list": 1, "queued_before": 1, "ended_since": 1}


def test_the_pace_is_counted_once_a_second_however_many_ask(api):
    submit(api, 2)
    asked = []

    class Counting:
        def __getattr__(self, name):
            asked.append(name)
            return getattr(api.wiring.store, name)

    paces = Paces(Counting(), now=api.clock)
    assert [paces.ended("wan2.1-demo") for _ in range(3)] == [0, 0, 0]
    api.worker.render_next()
    assert (paces.ended("wan2.1-demo"), len(asked)) == (0, 1)
    api.clock.advance(1)
    assert (paces.ended("wan2.1-demo"), len(asked)) == (1, 2)
    assert (paces.ended("veo-3"), len(asked)) == (0, 3)
