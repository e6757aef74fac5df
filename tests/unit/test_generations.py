"""A picture from the order to its deletion, over HTTP, with a provider that calls back."""

import io
import time

import httpx
import pytest
from PIL import Image

from services.emulators.replicate_script import Aborts, Fails, NeverEnds, Succeeds
from services.emulators.vertex import API_KEY, vertex_server
from tests.unit.api_under_test import meanwhile
from tests.unit.generations_under_test import (
    GENERATIONS,
    PROMPT,
    assert_refused,
    at_once,
    photograph,
    picture,
    running_atelier,
)


@pytest.fixture
def atelier(tmp_path):
    with running_atelier(tmp_path) as atelier:
        yield atelier


@pytest.fixture
def waiting(tmp_path):
    """Whose provider has every order in work until the test says more."""
    with running_atelier(tmp_path, seconds=None) as atelier:
        yield atelier


def test_a_prompt_becomes_a_picture(atelier):
    accepted = atelier.order()
    assert accepted.status_code == 202
    body = accepted.json()
    assert set(body) == {"id", "predictionId", "status", "settings"}
    assert body["settings"] == {
        "mode": "generate",
        "model": "google/nano-banana",
        "aspectRatio": "1:1",
    }
    assert accepted.headers["Location"] == f"{GENERATIONS}/{body['id']}"

    seen = atelier.wait_for(body, "succeeded")
    assert seen["predictionId"] == body["predictionId"] is not None
    assert seen["error"] is None
    assert seen["finishedAt"] >= seen["createdAt"]
    (variant,) = seen["variants"]
    assert variant["index"] == 0
    made = Image.open(io.BytesIO(httpx.get(variant["url"]).raise_for_status().content))
    assert (made.format, made.size) == ("JPEG", (variant["width"], variant["height"]))
    small = Image.open(io.BytesIO(httpx.get(variant["thumbnailUrl"]).content))
    assert max(small.size) <= 256
    folder = f"public/renders/{seen['renderId']}"
    assert atelier.stored("public") == [f"{folder}/0.jpg", f"{folder}/0_thumbnail.jpg"]


def test_the_provider_is_told_what_was_asked_and_where_to_call_back(atelier):
    generation = atelier.ordered(aspectRatio="16:9")
    (order,) = atelier.orders()
    assert order["input"] == {
        "prompt": PROMPT,
        "image_input": [],
        "aspect_ratio": "16:9",
        "output_format": "jpg",
    }
    assert order["webhook"].startswith(f"{atelier.url}/api/v1/webhooks/replicate?")
    assert generation["id"] in order["webhook"]
    assert set(order["webhook_events_filter"]) == {"start", "completed"}


def test_several_pictures_are_several_variants(atelier):
    atelier.provider.script.next(Succeeds(pictures=3, format="png"))
    seen = atelier.made()
    assert [variant["index"] for variant in seen["variants"]] == [0, 1, 2]
    assert {httpx.head(it["url"]).headers["Content-Type"] for it in seen["variants"]} == {
        "image/jpeg"
    }


@pytest.mark.parametrize(("mode", "count"), [("edit", 1), ("combine", 2)])
def test_pictures_to_start_from_reach_the_provider_and_are_gone_afterwards(waiting, mode, count):
    sent = [picture(color=color) for color in ("teal", "coral")][:count]
    files = {f"input{number + 1}": ("mine.png", content) for number, content in enumerate(sent)}
    reply = waiting.client.post(GENERATIONS, data={"prompt": PROMPT, "mode": mode}, files=files)
    assert reply.status_code == 202, reply.text
    assert reply.json()["settings"]["aspectRatio"] is None
    (order,) = waiting.orders()
    assert order["input"]["aspect_ratio"] == "match_input_image"
    assert order["input"]["prompt"].endswith(PROMPT)
    assert order["input"]["prompt"] != PROMPT, "the mode says what to do with them"
    fetched = [httpx.get(url) for url in order["input"]["image_input"]]
    assert [it.headers["Content-Type"] for it in fetched] == ["image/png"] * count
    for it, original in zip(fetched, sent, strict=True):
        pixels = [Image.open(io.BytesIO(content)).tobytes() for content in (it.content, original)]
        assert pixels[0] == pixels[1]
    stored = waiting.stored("private/ada/inputs")
    assert len(stored) == count

    waiting.clock.advance(301)
    assert httpx.get(order["input"]["image_input"][0]).status_code == 410
    waiting.client.patch(f"{GENERATIONS}/{reply.json()['id']}", json={"action": "cancel"})
    assert waiting.stored("private") == []


def test_photographs_are_not_too_large(waiting):
    files = {f"input{number}": ("mine.png", photograph()) for number in (1, 2)}
    reply = waiting.client.post(
        GENERATIONS, data={"prompt": PROMPT, "mode": "combine"}, files=files
    )
    assert reply.status_code == 202, reply.text


def test_without_an_address_the_provider_is_sent_the_pictures_and_asked_for_its_own(tmp_path):
    with running_atelier(tmp_path, reachable=False, polls=1, seconds=None) as atelier:
        reply = atelier.client.post(
            GENERATIONS, data={"prompt": PROMPT}, files={"input1": ("mine.png", picture())}
        )
        (order,) = atelier.orders()
        assert "webhook" not in order
        assert order["input"]["image_input"][0].startswith("data:image/png;base64,")
        for word in ("processing", "succeeded"):
            atelier.clock.advance(6)
            assert atelier.read(reply.json())["status"] == word


def test_a_picture_in_work_is_processing(waiting):
    generation = waiting.ordered()
    assert generation["status"] in {"starting", "processing"}
    waiting.provider.predictions.start(generation["predictionId"])
    waiting.wait_for(generation, "processing")


def test_a_failure_of_the_provider_is_told_without_its_words(atelier):
    atelier.provider.script.next(Fails(error="CUDA out of memory at /src/predict.py"))
    seen = atelier.wait_for(atelier.ordered(), "failed")
    assert seen["error"] == {
        "code": "UPSTREAM_ERROR",
        "message": "The provider failed. Submit it again.",
    }
    assert seen["variants"] == []
    assert atelier.used() == 1, "it ran"


def test_a_refusal_of_the_provider_is_the_requesters_to_mend(atelier):
    atelier.provider.script.next(Fails(error="The input was flagged as sensitive. (E005)"))
    seen = atelier.wait_for(atelier.ordered(), "failed")
    assert seen["error"]["code"] == "VALIDATION_ERROR"
    assert "safety filter" in seen["error"]["message"]


@pytest.mark.parametrize("end", [Aborts(), Fails(before_running=True)])
def test_what_never_ran_does_not_count(atelier, end):
    atelier.provider.script.next(end)
    atelier.wait_for(atelier.ordered(), "failed", "canceled")
    assert atelier.used() == 0


def test_a_provider_that_takes_no_order_is_told_at_once_and_nothing_counts(atelier):
    atelier.provider.script.fail("create", 500, detail="secret internals")
    reply = atelier.order(key="k")
    assert_refused(reply, 502, "UPSTREAM_ERROR", "Try again")
    assert "secret" not in reply.text
    assert atelier.used() == 0
    assert atelier.orders(), "it was asked"
    again = atelier.order(key="k").json()
    assert again["status"] == "failed", "a key is of one order, however that ended"
    assert atelier.made()["status"] == "succeeded"


def test_an_order_that_is_not_answered_is_found_again_by_its_webhook(atelier):
    atelier.provider.script.hang_up("create")
    generation = atelier.ordered()
    assert generation["predictionId"] is None
    seen = atelier.wait_for(generation, "succeeded")
    assert seen["predictionId"] is not None
    assert atelier.used() == 1


def test_an_order_nobody_hears_of_again_is_given_up_and_given_back(waiting):
    waiting.provider.script.hang_up("create", after=False)
    generation = waiting.ordered()
    waiting.clock.advance(601)
    seen = waiting.read(generation)
    assert seen["status"] == "failed"
    assert seen["error"]["code"] == "UPSTREAM_ERROR"
    assert "600 s" in seen["error"]["message"]
    assert waiting.used() == 0


def test_the_operators_mistakes_are_not_told_to_callers(atelier, tmp_path):
    (tmp_path / "token").write_text("r8_wrong")
    with running_atelier(
        _folder(tmp_path), replicate={"api_token_file": str(tmp_path / "token")}
    ) as it:
        reply = it.order()
        assert_refused(reply, 500, "INTERNAL_ERROR")
        assert "token" not in reply.json()["error"]["message"]
        assert it.used() == 0
        it.order(key="k")
        seen = it.read(it.order(key="k").json())
        assert seen["error"]["code"] == "INTERNAL_ERROR"
        assert "token" not in seen["error"]["message"]


def test_where_no_provider_is_set_up_that_is_said(tmp_path):
    with running_atelier(tmp_path, replicate={"api_token_file": None}) as atelier:
        assert_refused(atelier.order(), 501, "INTERNAL_ERROR", "makes no images")
        assert atelier.jobs() == 0


def test_the_same_key_and_body_are_one_order(atelier):
    first = atelier.order(key="k").json()
    atelier.wait_for(first, "succeeded")
    again = atelier.order(key="k")
    assert again.status_code == 202
    assert again.json()["id"] == first["id"]
    assert again.json()["status"] == "succeeded"
    assert len(atelier.orders()) == 1
    assert_refused(atelier.order(key="k", aspectRatio="16:9"), 409, "VALIDATION_ERROR")


def test_the_same_key_with_another_picture_is_another_body(atelier):
    replies = [
        atelier.client.post(
            GENERATIONS,
            data={"prompt": PROMPT},
            files={"input1": ("mine.png", picture(color=color))},
            headers={"Idempotency-Key": "k"},
        ).status_code
        for color in ("teal", "teal", "coral")
    ]
    assert replies == [202, 202, 409]


def test_fifty_at_once_with_one_key_are_one_job_one_debit_and_one_order(waiting):
    replies = at_once(50, lambda _: waiting.order(key="k"))
    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert (waiting.jobs(), waiting.used(), len(waiting.orders())) == (1, 1, 1)


def test_a_cancel_stops_it_here_and_there(waiting):
    waiting.provider.script.next(NeverEnds())
    generation = waiting.ordered()
    path = f"{GENERATIONS}/{generation['id']}"
    waiting.provider.predictions.start(generation["predictionId"])
    reply = waiting.client.patch(path, json={"action": "cancel"})
    assert reply.status_code == 200
    assert reply.json()["status"] == "canceled"
    assert waiting.provider.predictions.read(generation["predictionId"])["status"] == "canceled"
    assert waiting.used() == 1, "it ran"
    assert_refused(waiting.client.patch(path, json={"action": "cancel"}), 409, "VALIDATION_ERROR")


def test_a_cancel_before_it_runs_does_not_count(waiting):
    waiting.provider.script.next(NeverEnds(starts=False))
    generation = waiting.ordered()
    waiting.client.patch(f"{GENERATIONS}/{generation['id']}", json={"action": "cancel"})
    assert waiting.used() == 0


def test_a_cancel_while_it_is_being_ordered_stops_it_once_it_is(waiting):
    waiting.provider.script.delay("create", 1)
    with meanwhile(lambda: waiting.order(key="k")) as ordering:
        while not waiting.orders():
            time.sleep(0.01)
        accepted = waiting.order(key="k").json()
        assert accepted["predictionId"] is None
        path = f"{GENERATIONS}/{accepted['id']}"
        assert waiting.client.patch(path, json={"action": "cancel"}).status_code == 200
        late = ordering.result(30).json()
    assert late["status"] == "canceled"
    assert waiting.provider.predictions.read(late["predictionId"])["status"] == "canceled"
    assert waiting.used() == 0


def test_gemini_draws_while_it_is_asked(tmp_path):
    (tmp_path / "key").write_text(API_KEY)
    with (
        vertex_server() as vertex,
        running_atelier(
            tmp_path,
            plan="drawn",
            images={"model": "gemini-2.5-flash-image"},
            vertex={"base_url": vertex.url, "api_key_file": str(tmp_path / "key")},
        ) as atelier,
    ):
        accepted = atelier.client.post(
            GENERATIONS, data={"prompt": PROMPT}, files={"input1": ("mine.png", picture())}
        )
        assert accepted.json()["status"] == "succeeded", accepted.text
        (variant,) = atelier.read(accepted.json())["variants"]
        made = Image.open(io.BytesIO(httpx.get(variant["url"]).content))
        assert (made.format, made.size) == ("JPEG", (variant["width"], variant["height"]))
        assert (atelier.used(), atelier.orders()) == (1, [])
        assert atelier.stored("private") == []

        vertex.script.fail("generateContent", 503)
        assert_refused(atelier.order(), 502, "UPSTREAM_ERROR")
        assert atelier.used() == 1


def test_a_provider_that_cannot_be_told_to_stop_keeps_nobody_from_canceling(waiting):
    generation = waiting.ordered()
    waiting.provider.script.fail("cancel", 500)
    reply = waiting.client.patch(f"{GENERATIONS}/{generation['id']}", json={"action": "cancel"})
    assert reply.json()["status"] == "canceled"


@pytest.mark.parametrize("body", [{"action": "restart"}, {}, {"action": "cancel", "now": True}])
def test_a_change_is_a_cancel_and_nothing_else(waiting, body):
    path = f"{GENERATIONS}/{waiting.ordered()['id']}"
    assert_refused(waiting.client.patch(path, json=body), 400, "VALIDATION_ERROR")


def test_deleted_pictures_are_led_to_no_more_and_their_files_go_with_their_retention(atelier):
    seen = atelier.made()
    path = f"{GENERATIONS}/{seen['id']}"
    assert atelier.client.delete(path).status_code == 204
    gone = atelier.read(seen)
    assert (gone["status"], gone["variants"]) == ("succeeded", [])
    assert gone["deletedAt"] is not None
    assert atelier.client.delete(path).status_code == 204, "twice is as good as once"
    assert atelier.stored("public") != [], "softly"
    atelier.clock.advance(8 * 24 * 3600)
    atelier.api.wiring.lifecycle.sweep()
    assert atelier.stored("public") == []


def test_a_picture_in_progress_is_canceled_first(waiting):
    path = f"{GENERATIONS}/{waiting.ordered()['id']}"
    assert_refused(waiting.client.delete(path), 409, "VALIDATION_ERROR", "Cancel it first")


def test_pictures_past_their_retention_are_gone(atelier):
    seen = atelier.made()
    atelier.clock.advance(8 * 24 * 3600)
    gone = atelier.read(seen)
    assert gone["variants"] == []
    assert gone["deletedAt"] is not None


@pytest.mark.parametrize("ask", ["GET", "PATCH", "DELETE"])
def test_another_owners_picture_is_not_there(atelier, ask):
    path = f"{GENERATIONS}/{atelier.made()['id']}"
    body = {"json": {"action": "cancel"}} if ask == "PATCH" else {}
    with atelier.client_of("bob") as bob:
        assert_refused(bob.request(ask, path, **body), 404, "VALIDATION_ERROR", "no such job")


def test_a_picture_is_no_video_and_a_video_no_picture(atelier):
    seen = atelier.made()
    assert atelier.client.get(f"/v1/jobs/{seen['id']}").status_code == 404
    assert atelier.client.post(f"/v1/jobs/{seen['id']}/cancel").status_code == 404
    video = atelier.client.post("/v1/jobs", json={"prompt": PROMPT}).json()
    assert atelier.client.get(f"{GENERATIONS}/{video['id']}").status_code == 404


def test_the_key_of_a_video_is_taken_for_a_picture(waiting):
    headers = {"Idempotency-Key": "k"}
    video = waiting.client.post("/v1/jobs", json={"prompt": PROMPT}, headers=headers)
    assert video.status_code == 202
    assert_refused(waiting.order(key="k"), 409, "VALIDATION_ERROR")
    assert waiting.used() == 0


def test_who_sends_no_key_is_told_in_this_surfaces_words(atelier):
    reply = httpx.post(f"{atelier.url}{GENERATIONS}", json={"prompt": PROMPT})
    assert_refused(reply, 401, "VALIDATION_ERROR", "API key")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def _folder(path):
    inner = path / "inner"
    inner.mkdir()
    return inner
