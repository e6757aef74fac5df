"""Completion webhooks over the wire: the API, a courier, and somebody who is told."""

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from shared.errors import JobNotFound, RenderCrashed, StoreUnavailable
from shared.messages import TOPIC_WEBHOOKS
from tests.jobs import picture_job
from tests.unit.api_under_test import ApiUnderTest, assert_error, meanwhile, running_api
from tests.webhook_receiver import webhook_receiver

WEBHOOK = "/v1/webhook"
PUBLIC = "https://reel.example/hooks"
OPEN = {"webhooks": {"allow_private_addresses": True}}


@pytest.fixture
def receiver():
    with webhook_receiver() as running:
        yield running


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path, **OPEN) as running:
        yield running


def register(api, url):
    reply = api.client.put(WEBHOOK, json={"url": url})
    assert reply.status_code == 200, reply.text
    return reply.json


def see_to_messages(api: ApiUnderTest, courier=None) -> int:
    """How many messages a courier has found and seen to."""
    courier = courier or replace(api.wiring.courier(), now=api.clock)
    seen = 0
    while (delivery := api.wiring.queue.receive([TOPIC_WEBHOOKS], wait_seconds=0)) is not None:
        courier.deliver(delivery.message.job_id)
        api.wiring.queue.acknowledge(delivery)
        seen += 1
    return seen


def pass_time(api, seconds) -> int:
    api.clock.advance(seconds)
    api.wiring.lifecycle.sweep()
    return see_to_messages(api)


def deliveries(api, **query):
    reply = api.client.get(f"{WEBHOOK}/deliveries", query_string=query)
    assert reply.status_code == 200, reply.text
    return reply.json


def delivery(api, job_id):
    reply = api.client.get(f"{WEBHOOK}/deliveries/{job_id}")
    assert reply.status_code == 200, reply.text
    return reply.json


def verified(received, secret):
    """What the two libraries that people have say of it."""
    event = OpenAI(api_key="none").webhooks.unwrap(
        received.body, dict(received.headers), secret=secret
    )
    assert Webhook(secret).verify(received.body, dict(received.headers)) == json.loads(
        received.body
    )
    return event


# --- being told


def test_who_has_registered_is_told_of_the_end_in_words_that_openais_client_reads(api, receiver):
    secret = register(api, receiver.url)["secret"]
    job_id = api.finished()
    assert see_to_messages(api) == 1
    (received,) = receiver.received
    event = verified(received, secret)
    assert (event.type, event.object, event.data.id) == ("video.completed", "event", job_id)
    assert event.created_at == int(api.clock.now.timestamp())
    assert received.headers["webhook-id"] == event.id
    assert received.path == "/hooks/promptreel?who=ada"
    assert received.headers["content-type"] == "application/json"
    told = delivery(api, job_id)
    assert (told["id"], told["status"], told["type"]) == (event.id, "delivered", "video.completed")
    (attempt,) = told["attempts"]
    assert (attempt["status"], attempt["error"]) == (204, None)


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_a_video_that_will_not_be_has_failed(api, receiver, end):
    secret = register(api, receiver.url)["secret"]
    job_id = api.submit()
    if end == "failed":
        for _ in range(3):
            api.worker.fail_next(RenderCrashed("It crashed."))
            api.clock.advance(120)
            api.wiring.lifecycle.sweep()
    else:
        api.client.post(f"/v1/jobs/{job_id}/cancel")
    see_to_messages(api)
    # Its clock is not ours.
    body = json.loads(receiver.wait_for(1)[0].body)
    assert (body["type"], body["data"]) == ("video.failed", {"id": job_id})
    assert secret.startswith("whsec_")


def test_a_picture_is_told_of_too(api, receiver):
    register(api, receiver.url)
    job = api.wiring.lifecycle.endpoints.announced(picture_job(id="job_p", owner="ada"))
    api.wiring.store.admit(job)
    api.wiring.generations.cancel("job_p", owner="ada")
    see_to_messages(api)
    assert json.loads(receiver.wait_for(1)[0].body)["type"] == "image.failed"
    assert [told["job_id"] for told in deliveries(api, kind="image")["data"]] == ["job_p"]
    assert deliveries(api)["data"] == []


def test_a_webhook_holds_nothing_of_what_was_asked_for(api, receiver):
    register(api, receiver.url)
    api.finished()
    see_to_messages(api)
    assert set(json.loads(receiver.received[0].body)) == {
        "id",
        "object",
        "created_at",
        "type",
        "data",
    }
    assert b"circle" not in receiver.received[0].body


def test_a_message_that_comes_twice_tells_once(api, receiver):
    register(api, receiver.url)
    job_id = api.finished()
    courier = replace(api.wiring.courier(), now=api.clock)
    courier.deliver(job_id)
    courier.deliver(job_id)
    see_to_messages(api)
    assert len(receiver.received) == 1


def test_messages_of_what_is_not_there_or_has_no_webhook_are_seen_to(api):
    courier = api.wiring.courier()
    courier.deliver("job_unknown")
    courier.deliver(api.finished())


def test_who_registers_later_is_not_told_of_what_was_submitted_before(api, receiver):
    job_id = api.submit()
    register(api, receiver.url)
    api.worker.render_next()
    assert see_to_messages(api) == 0
    assert_error(api.client.get(f"{WEBHOOK}/deliveries/{job_id}"), 404, "webhook_not_found")


def test_an_end_whose_message_was_lost_is_told_by_the_sweep(api, receiver):
    register(api, receiver.url)
    api.finished()
    lost = api.wiring.queue.receive([TOPIC_WEBHOOKS], wait_seconds=1)
    api.wiring.queue.acknowledge(lost)
    assert pass_time(api, 9) == 0
    assert pass_time(api, 1) == 1
    assert len(receiver.received) == 1
    assert pass_time(api, 3600) == 0


def test_a_store_that_does_not_answer_leaves_the_message_where_it_is(api, receiver):
    register(api, receiver.url)
    job_id = api.finished()

    class Away:
        def get(self, _job_id):
            raise StoreUnavailable("the database cannot be used (SQLITE_BUSY)")

    with pytest.raises(StoreUnavailable):
        replace(api.wiring.courier(), store=Away()).deliver(job_id)


# --- trying again


def test_who_does_not_accept_is_asked_again_over_hours_with_the_same_id(api, receiver):
    register(api, receiver.url)
    job_id = api.finished()
    for _ in range(7):
        receiver.then(500)
    see_to_messages(api)
    for number, pause in enumerate((5, 300, 1800, 7200, 18000, 36000), start=1):
        assert pass_time(api, pause - 1) == 0
        assert len(receiver.received) == number
        assert pass_time(api, 1) == 1
    told = delivery(api, job_id)
    assert told["status"] == "failed"
    assert [attempt["status"] for attempt in told["attempts"]] == [500] * 7
    assert told["attempts"][0]["error"] == "The receiver did not accept it."
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    stamps = [int(received.headers["webhook-timestamp"]) for received in receiver.received]
    assert stamps[-1] - stamps[0] == 5 + 300 + 1800 + 7200 + 18000 + 36000
    assert pass_time(api, 100_000) == 0


def test_a_receiver_that_asks_for_time_gets_it(api, receiver):
    register(api, receiver.url)
    job_id = api.finished()
    receiver.then(429, Retry_After="60")
    see_to_messages(api)
    later = (api.clock.now + timedelta(seconds=60)).isoformat().replace("+00:00", "Z")
    assert delivery(api, job_id)["next_attempt_at"] == later
    assert pass_time(api, 59) == 0
    assert pass_time(api, 1) == 1
    assert delivery(api, job_id)["status"] == "delivered"


def test_it_may_say_until_when_by_a_date(api, receiver):
    register(api, receiver.url)
    job_id = api.finished()
    receiver.then(503, Retry_After="Fri, 31 Dec 9999 23:59:59 GMT")
    see_to_messages(api)
    day = (api.clock.now + timedelta(hours=24)).isoformat().replace("+00:00", "Z")
    assert delivery(api, job_id)["next_attempt_at"] == day


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(api, receiver, status):
    register(api, receiver.url)
    job_id = api.finished()
    receiver.then(status, Location=receiver.url)
    see_to_messages(api)
    assert len(receiver.received) == 1
    (attempt,) = delivery(api, job_id)["attempts"]
    assert (attempt["status"], attempt["error"]) == (status, "Redirects are not followed.")


def test_nobody_listens(api):
    register(api, "http://127.0.0.1:9/hooks")
    job_id = api.finished()
    see_to_messages(api)
    told = delivery(api, job_id)
    assert told["status"] == "pending"
    assert told["attempts"][0]["error"] == "The connection failed."


def test_a_receiver_that_does_not_answer_in_time_has_not_answered(tmp_path, receiver):
    section = {"webhooks": {"allow_private_addresses": True, "request_seconds": 0.3}}
    with running_api(tmp_path, **section) as api:
        register(api, receiver.url)
        job_id = api.finished()
        receiver.answers.clear()
        see_to_messages(api)
        (attempt,) = delivery(api, job_id)["attempts"]
    assert attempt["error"] == "No answer within 0.3 s."
    assert 0.3 <= attempt["seconds"] < 5


def test_a_courier_that_died_is_followed_by_another(api, receiver):
    register(api, receiver.url)
    api.finished()

    class Died(BaseException):
        pass

    class Dying:
        def post(self, *_, **__):
            raise Died

    with pytest.raises(Died):
        see_to_messages(api, replace(api.wiring.courier(), now=api.clock, sender=Dying()))
    left = api.wiring.queue.receive([TOPIC_WEBHOOKS], wait_seconds=0)
    assert left is None  # until its deadline; the sweep need not wait for it
    assert pass_time(api, 60) == 1
    assert len(receiver.received) == 1


# --- one receiver among many


def test_a_slow_receiver_keeps_its_own_webhooks_waiting_and_nobody_elses(tmp_path, receiver):
    section = {"webhooks": {"allow_private_addresses": True, "at_once_per_owner": 1}}
    with running_api(tmp_path, **section) as api, webhook_receiver() as quick:
        register(api, receiver.url)
        slow, also_slow = api.finished(), api.finished()
        bob = api.stranger
        assert bob.put(WEBHOOK, json={"url": quick.url}).status_code == 200
        bobs = bob.post("/v1/jobs", json={"prompt": "theirs"}).json["id"]
        api.worker.render_next()
        courier = replace(api.wiring.courier(), now=api.clock)
        receiver.answers.clear()
        with meanwhile(lambda: courier.deliver(slow)):
            receiver.wait_for(1)
            courier.deliver(also_slow)
            courier.deliver(bobs)
            assert len(quick.received) == 1
            assert len(receiver.received) == 1
            receiver.answers.set()
        assert delivery(api, also_slow)["attempts"] == []
        api.clock.advance(10)
        courier.deliver(also_slow)
        assert delivery(api, also_slow)["status"] == "delivered"


# --- gone


def test_a_receiver_that_is_gone_is_not_asked_again_until_it_is_registered_again(api, receiver):
    made = register(api, receiver.url)
    first, second = api.finished(), api.finished()
    receiver.then(410)
    see_to_messages(api)
    assert len(receiver.received) == 1
    assert api.client.get(WEBHOOK).json["disabled_at"] is not None
    told = {job_id: delivery(api, job_id) for job_id in (first, second)}
    assert {each["status"] for each in told.values()} == {"failed"}
    errors = sorted(each["attempts"][0]["error"] for each in told.values())
    assert errors == [
        "The endpoint is disabled: its receiver said that it is gone.",
        "The receiver said that it is gone: the endpoint is disabled.",
    ]
    again = register(api, receiver.url)
    assert (again["disabled_at"], again["secret"]) == (None, None)
    retried = api.client.post(f"{WEBHOOK}/deliveries/{second}/retry")
    assert (retried.status_code, retried.json["status"]) == (202, "pending")
    see_to_messages(api)
    assert delivery(api, second)["status"] == "delivered"
    Webhook(made["secret"]).verify(receiver.received[1].body, dict(receiver.received[1].headers))


def test_what_is_on_its_way_when_the_endpoint_is_removed_is_given_up(api, receiver):
    register(api, receiver.url)
    job_id = api.finished()
    assert api.client.delete(WEBHOOK).json == {"ok": True}
    see_to_messages(api)
    assert receiver.received == []
    assert delivery(api, job_id)["attempts"][0]["error"] == "There is no endpoint any more."


def test_what_is_on_its_way_goes_to_where_the_endpoint_is_then(api, receiver):
    register(api, "http://127.0.0.1:9/old")
    api.finished()
    register(api, receiver.url)
    see_to_messages(api)
    assert len(receiver.received) == 1


def test_nobody_is_told_of_a_deleted_video(api, receiver):
    register(api, receiver.url)
    job_id = api.finished()
    assert api.client.delete(f"/v1/videos/{job_id}").status_code == 200
    see_to_messages(api)
    assert receiver.received == []
    assert_error(api.client.get(f"{WEBHOOK}/deliveries/{job_id}"), 404, "job_not_found")


# --- secrets


def test_a_new_secret_signs_along_with_the_old_one_for_a_day(api, receiver):
    old = register(api, receiver.url)["secret"]
    reply = api.client.post(f"{WEBHOOK}/secret")
    new = reply.json["secret"]
    assert new != old
    api.finished()
    see_to_messages(api)
    for secret in (old, new):
        verified(receiver.received[0], secret)
    api.clock.advance(24 * 3600)
    job_id = api.finished()
    see_to_messages(api)
    # The clock of the libraries is not ours: they would find it too new.
    received = receiver.received[1]
    assert delivery(api, job_id)["status"] == "delivered"
    assert " " not in received.headers["webhook-signature"]


def test_another_secret_does_not_open_it(api, receiver):
    register(api, receiver.url)
    api.finished()
    see_to_messages(api)
    wrong = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    received = receiver.received[0]
    with pytest.raises(WebhookVerificationError):
        Webhook(wrong).verify(received.body, dict(received.headers))
    with pytest.raises(InvalidWebhookSignatureError):
        OpenAI(api_key="none").webhooks.unwrap(received.body, dict(received.headers), secret=wrong)


def test_a_secret_is_shown_once(api):
    assert register(api, PUBLIC)["secret"].startswith("whsec_")
    assert "secret" not in api.client.get(WEBHOOK).json
    assert register(api, PUBLIC)["secret"] is None


# --- where nobody is told


@contextmanager
def closed_api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://reel.example/hooks", "https://"),
        ("https://127.0.0.1/hooks", "not public"),
        ("https://10.1.2.3/", "not public"),
        ("https://[::1]/", "not public"),
        ("https://169.254.169.254/computeMetadata/v1/", "not public"),
        ("https://ada:secret@reel.example/", "plain URL"),
        ("ftp://reel.example/", "plain URL"),
        ("https:///hooks", "plain URL"),
        ("https://reel.example:port/", "plain URL"),
        ("https://reel.example/\n", "plain URL"),
        ("", "url"),
        ("https://reel.example/" + "x" * 2048, "url"),
    ],
)
def test_a_url_that_is_never_called_is_refused_at_once(tmp_path, url, why):
    with closed_api(tmp_path) as api:
        reply = api.client.put(WEBHOOK, json={"url": url})
        assert_error(reply, 400, "invalid_request", why)
        assert reply.json["error"]["field"] == "url"
        assert_error(api.client.get(WEBHOOK), 404, "webhook_not_found")


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_called(tmp_path):
    with closed_api(tmp_path) as api:
        register(api, "https://localhost/hooks")
        job_id = api.finished()
        see_to_messages(api)
        error = delivery(api, job_id)["attempts"][0]["error"]
    assert error == "The URL leads to an address that is not public."


def test_what_was_allowed_once_is_not_for_ever(tmp_path, receiver):
    with running_api(tmp_path, **OPEN) as api:
        register(api, receiver.url)
    with closed_api(tmp_path) as api:
        job_id = api.finished()
        see_to_messages(api)
        error = delivery(api, job_id)["attempts"][0]["error"]
    assert error == "The URL must begin with https://."
    assert receiver.received == []


# --- the configuration's endpoints


def configured(tmp_path, url):
    (tmp_path / "ada.secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    endpoint = {"url": url, "secret_file": "ada.secret"}
    return {"webhooks": {"allow_private_addresses": True, "endpoints": {"ada": endpoint}}}


def test_an_owner_may_be_told_where_the_configuration_says(tmp_path, receiver):
    with running_api(tmp_path, **configured(tmp_path, receiver.url)) as api:
        api.finished()
        see_to_messages(api)
        verified(receiver.received[0], "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        shown = api.client.get(WEBHOOK).json
        assert (shown["url"], shown["created_at"]) == (receiver.url, None)
        for change in (
            api.client.put(WEBHOOK, json={"url": PUBLIC}),
            api.client.delete(WEBHOOK),
            api.client.post(f"{WEBHOOK}/secret"),
        ):
            assert_error(change, 409, "webhook_configured", "configuration")


def test_one_of_the_configuration_that_is_gone_is_told_again_when_it_is_put_again(
    tmp_path, receiver
):
    with running_api(tmp_path, **configured(tmp_path, receiver.url)) as api:
        receiver.then(410)
        api.finished()
        see_to_messages(api)
        assert api.client.get(WEBHOOK).json["disabled_at"] is not None
        assert api.wiring.store.endpoint("ada").secret == ""
        assert register(api, receiver.url) == {
            "url": receiver.url,
            "created_at": None,
            "disabled_at": None,
            "old_secret_until": None,
            "secret": None,
        }
        api.finished()
        see_to_messages(api)
        assert len(receiver.received) == 2


def test_without_a_secret_nothing_is_sent_until_there_is_one(tmp_path, receiver):
    with running_api(tmp_path, **configured(tmp_path, receiver.url)) as api:
        secret = tmp_path / "ada.secret"
        good = secret.read_text()
        for bad in ("", "whsec_no base64!", "whsec_"):
            secret.write_text(bad)
            job_id = api.finished()
            see_to_messages(api)
            told = delivery(api, job_id)
            assert told["status"] == "pending"
            assert told["attempts"][0]["error"] == "The installation has no secret to sign with."
        assert receiver.received == []
        secret.write_text(good)
        assert pass_time(api, 5) == 3
        assert len(receiver.received) == 3


# --- the log of deliveries


def test_pages_of_the_log_follow_each_other(api, receiver):
    api.finished()  # before there was anybody to tell
    register(api, receiver.url)
    made = []
    for _ in range(5):
        api.clock.advance(1)
        made.append(api.finished())
    waiting = api.submit()
    receiver.then(500)
    see_to_messages(api)
    first = deliveries(api, limit=3)
    assert [told["job_id"] for told in first["data"]] == made[:1:-1]
    assert first["has_more"]
    second = deliveries(api, limit=3, after=first["last_id"])
    assert [told["job_id"] for told in second["data"]] == made[1::-1]
    assert not second["has_more"]
    assert [told["job_id"] for told in deliveries(api, status="pending")["data"]] == made[:1]
    assert len(deliveries(api, status="delivered")["data"]) == 4
    assert_error(
        api.client.get(f"{WEBHOOK}/deliveries/{waiting}"), 409, "job_not_terminal", "queued"
    )


def test_nobody_sees_or_sends_anothers_deliveries(api, receiver):
    register(api, receiver.url)
    job_id = api.finished()
    bob = api.stranger
    assert bob.get(f"{WEBHOOK}/deliveries").json["data"] == []
    for reply in (
        bob.get(f"{WEBHOOK}/deliveries/{job_id}"),
        bob.post(f"{WEBHOOK}/deliveries/{job_id}/retry"),
        bob.get(f"{WEBHOOK}/deliveries?after={job_id}"),
    ):
        assert_error(reply, 404, "job_not_found")
    assert_error(bob.get(WEBHOOK), 404, "webhook_not_found")


def test_only_what_has_ended_is_sent_again(api, receiver):
    register(api, receiver.url)
    job_id = api.submit()
    assert_error(api.client.post(f"{WEBHOOK}/deliveries/{job_id}/retry"), 409, "job_not_terminal")


def test_what_nobody_sees_to_keeps_neither_files_nor_jobs_beyond_their_time(api, receiver):
    register(api, receiver.url)
    job_id = api.finished()
    day = 24 * 3600
    for days in (7, 1, 23):
        api.clock.advance(days * day)
        api.wiring.lifecycle.sweep()
        if days == 7:
            assert api.wiring.store.get(job_id).artifacts == ()
    with pytest.raises(JobNotFound):
        api.wiring.store.get(job_id)
