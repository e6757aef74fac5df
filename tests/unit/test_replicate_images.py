"""Replicate's real client, over HTTP to our Replicate."""

import base64
import re
import subprocess
import sys
import threading
import time
import traceback
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from services.emulators.replicate import API_TOKEN, replicate_server
from services.emulators.replicate_script import Aborts, Fails, NeverEnds, Succeeds
from services.emulators.serving import serving
from shared.adapters.images.replicate import BASE_URL, ReplicateImages, prediction_of
from shared.adapters.images.replicate_wire import Wire
from shared.config_sections import Replicate
from shared.errors import (
    BackendUnavailable,
    ModelUnavailable,
    PromptreelError,
    PromptRefused,
    ProviderSilent,
)
from shared.images.provider import ImageProvider, InputPicture, Order, PredictionStatus

PROMPT = "a zebra on a unicycle, quietly"
WEBHOOK = "https://promptreel.example/webhooks/secret-word"
INPUT_URL = "https://promptreel.example/inputs/signed-word"
MODEL = "google/nano-banana"
ORDER = Order(model=MODEL, prompt=PROMPT, aspect_ratio="16:9", webhook_url=WEBHOOK)
TOLD_UPSTREAM = "words of their own"


def picture() -> bytes:
    file = BytesIO()
    Image.new("RGB", (30, 20)).save(file, "PNG")
    return file.getvalue()


def assert_discreet(error: PromptreelError, *secrets: str) -> None:
    """Neither the error nor what a log prints beside it tells a secret."""
    assert re.fullmatch(r"[A-Z].+\.", error.message)
    printed = [error.message, repr(error), *traceback.format_exception(error)]
    for secret in (PROMPT, API_TOKEN, WEBHOOK, INPUT_URL, TOLD_UPSTREAM, "http", *secrets):
        # The lines of our own code are printed, too; they hold no values.
        assert secret not in "".join(line for line in printed if 'File "' not in line)


@pytest.fixture
def server():
    with replicate_server() as running:
        yield running


@pytest.fixture
def section(server, tmp_path):
    (tmp_path / "token").write_text(API_TOKEN)
    return Replicate(api_token_file=tmp_path / "token", base_url=server.url, request_seconds=20)


@pytest.fixture
def connect(section):
    """A connection as configured, but for what is named."""
    connections = []

    def connected(**changes) -> ReplicateImages:
        connections.append(ReplicateImages(section.model_copy(update=changes)))
        return connections[-1]

    yield connected
    for connection in connections:
        connection.close()


@pytest.fixture
def images(connect):
    return connect()


def ended(server, images, outcome=None):
    """What is read of an order once it has ended so."""
    prediction_id = images.create(ORDER).id
    server.predictions.end(prediction_id, outcome)
    return images.read(prediction_id)


# --- how it is configured


@pytest.mark.parametrize("content", [None, "", " \n", "two words", "tok\u00e9n", "a\nb", b"\xff"])
def test_a_token_that_cannot_be_used_is_known_before_anything_is_asked(server, tmp_path, content):
    file = tmp_path / "wrong"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for named in (file, None, tmp_path):
        with pytest.raises(ModelUnavailable, match=r"images\.replicate\.api_token_file") as caught:
            ReplicateImages(Replicate(api_token_file=named, base_url=server.url))
        assert_discreet(caught.value, str(tmp_path))
    assert server.asked == []


def test_the_token_is_the_files_without_what_an_editor_adds_and_read_once(server, section, connect):
    section.api_token_file.write_text(f"  {API_TOKEN}\r\n\n")
    images = connect()
    section.api_token_file.unlink()
    assert images.create(ORDER).id == server.predictions.ids[0]
    assert API_TOKEN not in repr(images) + repr(vars(images))


def test_a_worker_without_the_library_says_what_to_install(connect, monkeypatch):
    monkeypatch.setitem(sys.modules, "replicate.client", None)
    with pytest.raises(ModelUnavailable, match=r"install promptreel\[api\]"):
        connect()


def test_a_url_that_is_none_is_the_configurations_fault(connect):
    with pytest.raises(ModelUnavailable, match=r"images\.replicate\.base_url") as caught:
        connect(base_url="http://[::1")
    assert_discreet(caught.value, "::1")


def test_the_environment_neither_names_who_asks_nor_whom(images, connect, server, monkeypatch):
    monkeypatch.setenv("REPLICATE_API_TOKEN", "another")
    monkeypatch.setenv("REPLICATE_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert images.create(ORDER)
    assert len(server.asked) == 1
    unnamed = connect(base_url=None)
    assert unnamed._client._base_url == BASE_URL  # asking it would leave this machine


# --- what is ordered


def test_an_order_says_all_that_the_model_is_to_know(server, images):
    prediction = images.create(ORDER)
    (asked,) = server.asked
    assert asked.path == f"/v1/models/{MODEL}/predictions"
    assert asked.headers["Authorization"] == f"Bearer {API_TOKEN}"
    assert asked.body == {
        "input": {
            "prompt": PROMPT,
            "image_input": [],
            "aspect_ratio": "16:9",
            "output_format": "jpg",
        },
        "webhook": WEBHOOK,
        "webhook_events_filter": ["start", "completed"],
    }
    assert (prediction.status, prediction.ran) == (PredictionStatus.STARTING, False)
    assert (prediction.id, prediction.outputs) == (server.predictions.ids[0], ())


def test_pictures_go_by_their_link_where_there_is_one_else_as_they_are(server, images):
    content = picture()
    inputs = (
        InputPicture(content=content, content_type="image/png", url=INPUT_URL),
        InputPicture(content=content, content_type="image/png"),
    )
    images.create(Order(model=MODEL, prompt=PROMPT, aspect_ratio=None, inputs=inputs))
    body = server.asked[0].body
    linked, sent = body["input"]["image_input"]
    assert linked == INPUT_URL
    head, _, encoded = sent.partition(",")
    assert (head, base64.b64decode(encoded)) == ("data:image/png;base64", content)
    assert body["input"]["aspect_ratio"] == "match_input_image"
    assert "webhook" not in body


@pytest.mark.parametrize("model", ["nano", "a/b/c", "../b", "a/..", "a/b?c", "a/b:1", "a/b\n", "/"])
def test_a_model_that_could_not_be_one_is_not_asked_for(server, images, model):
    with pytest.raises(ModelUnavailable, match=r"images\.model"):
        images.create(Order(model=model, prompt=PROMPT, aspect_ratio=None))
    assert server.asked == []


# --- how it goes on


def test_an_order_is_polled_until_its_picture_is_there(server, images):
    provider: ImageProvider = images
    prediction_id = provider.create(ORDER).id
    seen = [provider.read(prediction_id) for _ in range(3)]
    assert [one.status for one in seen] == ["processing", "processing", "succeeded"]
    assert [one.status.is_terminal for one in seen] == [False, False, True]
    assert all(one.ran for one in seen)
    assert seen[0].outputs == ()
    assert seen[2].outputs == (f"{server.url}/files/{prediction_id}/0.jpg",)


@pytest.mark.parametrize(
    ("outcome", "status", "ran", "refused"),
    [
        (Succeeds(pictures=2), "succeeded", True, False),
        (Fails(TOLD_UPSTREAM), "failed", True, False),
        (Fails("Out of memory.", before_running=True), "failed", False, False),
        (Fails("The input was flagged as sensitive. Try again."), "failed", True, True),
        (Fails("Request failed (E005)"), "failed", True, True),
        (Fails("Blocked by SAFETY filters."), "failed", True, True),
        (Fails("The content is prohibited."), "failed", True, True),
        (Fails("It violates our Content Policy."), "failed", True, True),
        (Aborts(), "canceled", False, False),
        (NeverEnds(), "processing", True, False),
        (NeverEnds(starts=False), "starting", False, False),
    ],
)
def test_a_prediction_says_how_it_stands_what_ran_and_what_was_refused(  # noqa: PLR0917 - a row of the table
    server, images, outcome, status, ran, refused
):
    prediction = ended(server, images, outcome)
    assert (prediction.status, prediction.ran, prediction.refused) == (status, ran, refused)
    assert TOLD_UPSTREAM not in repr(prediction)
    assert "http" not in repr(prediction)


@pytest.mark.parametrize(
    ("output", "outputs"),
    [
        ("https://a.example/1", ("https://a.example/1",)),
        (
            ["https://a.example/1", "https://a.example/2"],
            ("https://a.example/1", "https://a.example/2"),
        ),
        ([], ()),
        ("", ()),
        (["https://a.example/1", 7, None, {"a": 1}], ("https://a.example/1",)),
        ({"image": "https://a.example/1"}, ()),
        (7, ()),
    ],
)
def test_one_output_or_several_are_read_alike(server, images, output, outputs):
    assert ended(server, images, Succeeds(output=output)).outputs == outputs


def test_what_is_canceled_before_it_ran_did_not_run(server, images):
    waiting, running = (images.create(ORDER).id for _ in range(2))
    server.predictions.start(running)
    canceled = [images.cancel(waiting), images.cancel(running)]
    assert [one.status for one in canceled] == ["canceled", "canceled"]
    assert [one.ran for one in canceled] == [False, True]


def test_what_has_ended_is_not_canceled(server, images):
    done = ended(server, images)
    assert images.cancel(done.id) == done


def test_what_is_not_known_or_forgotten_is_none(server, images):
    prediction_id = images.create(ORDER).id
    server.predictions.forget()
    assert images.read(prediction_id) is None
    assert images.cancel(prediction_id) is None


@pytest.mark.parametrize("prediction_id", ["", "../models", "a/b", "a?b", "a b", "a\n", "x" * 129])
def test_an_id_that_could_not_be_one_is_not_asked_for(server, images, prediction_id):
    assert images.read(prediction_id) is None
    assert images.cancel(prediction_id) is None
    assert server.asked == []


# --- what goes wrong


@pytest.mark.parametrize("call", ["create", "read", "cancel"])
@pytest.mark.parametrize(
    ("http", "kind", "key"),
    [
        (302, ModelUnavailable, "images.replicate.base_url"),
        (400, ModelUnavailable, "images.model"),
        (401, ModelUnavailable, "images.replicate.api_token_file"),
        (402, ModelUnavailable, "images.replicate.api_token_file"),
        (403, ModelUnavailable, "images.replicate.api_token_file"),
        (422, ModelUnavailable, "server.public_url"),
        (408, BackendUnavailable, ""),
        (429, BackendUnavailable, ""),
        (500, BackendUnavailable, ""),
        (503, BackendUnavailable, ""),
    ],
)
def test_what_replicate_answers_with_is_somebodys_fault(  # noqa: PLR0917 - a row of the table
    server, images, call, http, kind, key
):
    prediction_id = images.create(ORDER).id
    server.script.fail(call, http, detail=f"{TOLD_UPSTREAM}: {PROMPT}", retry_after="60")
    asked = len(server.asked)
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        images.create(ORDER) if call == "create" else getattr(images, call)(prediction_id)
    # The library would have slept for a minute, and asked again.
    assert time.monotonic() - started < 20
    assert len(server.asked) == asked + 1
    assert key in caught.value.message
    assert_discreet(caught.value)
    assert len(server.predictions.ids) == 1


@pytest.mark.parametrize("http", [502, 504])
def test_a_gateway_that_fails_may_have_passed_the_order_on(server, images, http):
    server.script.fail("create", http)
    with pytest.raises(ProviderSilent):
        images.create(ORDER)
    server.script.fail("read", http)
    with pytest.raises(BackendUnavailable):
        images.read("p1")


def test_a_model_that_replicate_does_not_have_is_the_operators_to_mend(server, images):
    with pytest.raises(ModelUnavailable, match=r"images\.model") as caught:
        images.create(Order(model="google/other", prompt=PROMPT, aspect_ratio=None))
    assert_discreet(caught.value)


def test_a_webhook_that_replicate_does_not_take_is_the_operators_to_mend(server, images):
    url = "http://promptreel.example/webhooks/secret-word"
    order = Order(model=MODEL, prompt=PROMPT, aspect_ratio=None, webhook_url=url)
    with pytest.raises(ModelUnavailable, match=r"server\.public_url") as caught:
        images.create(order)
    assert_discreet(caught.value)


@pytest.mark.parametrize("why", ["It was flagged as sensitive.", "E005", "the content policy"])
def test_an_order_that_a_filter_stops_at_the_door_is_the_callers_to_mend(server, images, why):
    server.script.fail("create", 422, detail=f"{why} {PROMPT}")
    with pytest.raises(PromptRefused) as caught:
        images.create(ORDER)
    assert_discreet(caught.value)


def test_the_name_of_a_setting_is_no_refusal(server, images):
    server.script.fail("create", 422, detail="input.safety_tolerance is prohibited")
    with pytest.raises(ModelUnavailable):
        images.create(ORDER)


def test_an_order_whose_connection_was_cut_may_be_running(server, images):
    server.script.hang_up("create")
    with pytest.raises(ProviderSilent) as caught:
        images.create(ORDER)
    assert_discreet(caught.value)
    assert len(server.predictions.ids) == len(server.asked) == 1


def test_an_order_that_is_not_answered_in_time_may_be_running(server, connect):
    server.script.delay("create", 60)
    with pytest.raises(ProviderSilent) as caught:
        connect(request_seconds=0.3).create(ORDER)
    assert_discreet(caught.value)
    assert len(server.predictions.ids) == 1


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, "text", 7, {"id": "a/b", "status": "starting"}, {"id": "a", "status": "odd"}],
)
def test_an_order_whose_answer_cannot_be_read_may_be_running(server, images, answer):
    server.script.say("create", answer)
    server.script.babble("create")
    for _ in range(2):
        with pytest.raises(ProviderSilent) as caught:
            images.create(ORDER)
        assert_discreet(caught.value)
    assert len(server.predictions.ids) == 2


def test_what_replicate_says_beyond_what_its_library_knows_is_read_all_the_same(server, images):
    odd = {"id": "abc", "status": "starting", "error": {"code": 1}, "model": None}
    server.script.say("create", odd, http=201)
    assert images.create(ORDER).id == "abc"


@pytest.mark.parametrize("call", ["read", "cancel"])
def test_a_question_that_is_not_answered_may_be_asked_again(server, connect, call):
    prediction_id = connect().create(ORDER).id
    images = connect(request_seconds=0.3)
    server.script.hang_up(call)
    server.script.delay(call, 60)
    server.script.babble(call)
    server.script.say(call, {"status": "unheard of"})
    for _ in range(4):
        with pytest.raises(BackendUnavailable) as caught:
            getattr(images, call)(prediction_id)
        assert_discreet(caught.value, prediction_id)
    assert connect().cancel(prediction_id).status.is_terminal


def test_where_nobody_listens_nothing_was_ordered(connect):
    images = connect(base_url="http://127.0.0.1:9")
    for ask in (lambda: images.create(ORDER), lambda: images.read("a"), lambda: images.cancel("a")):
        with pytest.raises(BackendUnavailable) as caught:
            ask()
        assert_discreet(caught.value)


def test_an_answer_that_trickles_is_not_waited_for(connect, dripping):
    images = connect(base_url=dripping, request_seconds=0.3)
    with pytest.raises(ProviderSilent):
        images.create(ORDER)
    with pytest.raises(BackendUnavailable):
        images.read("a")


def test_each_thread_hears_its_own_answer(server, images):
    ids = [images.create(ORDER).id for _ in range(2)]
    wire = Wire(request_seconds=20)
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    first_is_answered, second_has_heard = threading.Event(), threading.Event()
    heard = {}

    def first(http):
        http.get(f"/v1/predictions/{ids[0]}")
        first_is_answered.set()
        assert second_has_heard.wait(20)

    with httpx.Client(base_url=server.url, headers=headers, transport=wire) as http:
        thread = threading.Thread(target=lambda: heard.update(wire.heard(lambda: first(http))))
        thread.start()
        assert first_is_answered.wait(20)
        second = wire.heard(lambda: http.get(f"/v1/predictions/{ids[1]}"))
        second_has_heard.set()
        thread.join()
    assert [heard["id"], second["id"]] == ids


@pytest.fixture
def dripping():
    """A server whose answers never end."""
    over = threading.Event()

    def drip(_environ, start):
        start("200 OK", [("Content-Type", "application/json")])
        while not over.wait(0.02):
            yield b" "

    with serving(drip) as url:
        yield url
        over.set()


# --- what a webhook tells


def test_a_webhook_is_read_as_an_answer_is(server, images):
    prediction_id = images.create(ORDER).id
    server.predictions.end(prediction_id)
    assert prediction_of(server.predictions.read(prediction_id)) == images.read(prediction_id)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "text",
        {},
        {"id": "a"},
        {"id": 7, "status": "starting"},
        {"id": "", "status": "starting"},
        {"id": "a/../b", "status": "starting"},
        {"id": "a\n", "status": "starting"},
        {"id": "x" * 129, "status": "starting"},
        {"id": "a", "status": None},
        {"id": "a", "status": "STARTING"},
        {"id": "a", "status": ["starting"]},
    ],
)
def test_what_is_no_prediction_is_said_so_without_a_word_of_it(payload):
    with pytest.raises(ValueError, match=r"^a prediction (is|has) an? [a-z]+$"):
        prediction_of(payload)


def test_nothing_is_imported_before_it_is_needed():
    program = (
        "import sys, shared.adapters.images.replicate as known;sys.exit('replicate' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0
