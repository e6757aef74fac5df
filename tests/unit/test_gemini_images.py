"""Gemini as a provider of pictures, over the wire: one order, one answer."""

import base64
import logging
import socket
import threading
from io import BytesIO

import pytest
from PIL import Image

from services.emulators.vertex import API_KEY, vertex_server
from services.emulators.vertex_script import said
from shared.adapters.images.gemini import GeminiImages
from shared.config_sections import Vertex
from shared.errors import (
    BackendUnavailable,
    InvalidRequest,
    ModelUnavailable,
    PromptRefused,
    ProviderSilent,
)
from shared.images.provider import ImageProvider, InputPicture, Order, PredictionStatus
from tests.unit.hostile_pictures import header, png
from tests.unit.vertex_under_test import PROMPT, assert_discreet, hear_everything

CALL = "generateContent"
MODEL = "gemini-2.5-flash-image"


@pytest.fixture
def server():
    with vertex_server() as running:
        yield running


@pytest.fixture
def section(server, tmp_path):
    key = tmp_path / "key"
    key.write_text(API_KEY)
    return Vertex(api_key_file=key, base_url=server.url, request_seconds=20)


@pytest.fixture
def images(section):
    return GeminiImages(section)


def picture(kind="PNG", size=(8, 8), colour="red") -> InputPicture:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return InputPicture(content=file.getvalue(), content_type=f"image/{kind.lower()}")


def order(*inputs, aspect_ratio="1:1", model=MODEL) -> Order:
    return Order(model=model, prompt=PROMPT, aspect_ratio=aspect_ratio, inputs=inputs)


def sent(asked) -> list[tuple[str, bytes]]:
    """The pictures of a request, as (type, content), before its last part, the prompt."""
    (content,) = asked.body["contents"]
    *pictures, prompt = content["parts"]
    assert prompt == {"text": PROMPT}
    data = [part["inlineData"] for part in pictures]
    return [
        (
            part.get("mimeType") or part["mime_type"],
            base64.b64decode(part["data"].replace("-", "+").replace("_", "/")),
        )
        for part in data
    ]


def test_a_picture_is_there_with_the_answer(server, images):
    made = images.create(order(aspect_ratio="9:16"))
    assert made.status is PredictionStatus.SUCCEEDED
    assert made.ran
    assert not made.refused
    (content,) = made.outputs
    with Image.open(BytesIO(content)) as image:
        image.load()
        assert image.width < image.height
    (asked,) = server.script.asked
    assert asked.model == MODEL
    assert asked.body["generationConfig"]["imageConfig"] == {"aspectRatio": "9:16"}
    assert sent(asked) == []


@pytest.mark.parametrize(
    "inputs",
    [
        (picture("JPEG"),),
        (picture("WEBP"), picture("PNG")),
        (picture("PNG", colour="blue"), picture("JPEG", colour="red")),
    ],
    ids=["one", "two", "two others"],
)
def test_the_pictures_to_start_from_go_first_in_their_order(server, images, inputs):
    assert images.create(order(*inputs)).outputs
    (asked,) = server.script.asked
    assert sent(asked) == [(picture.content_type, picture.content) for picture in inputs]


@pytest.mark.parametrize(
    ("size", "shape"), [((300, 100), "21:9"), ((90, 161), "9:16"), ((70, 70), "1:1")]
)
def test_a_picture_without_a_shape_takes_the_one_nearest_to_its_first_input(
    server, images, size, shape
):
    images.create(order(picture(size=size), picture(size=(40, 50)), aspect_ratio=None))
    (asked,) = server.script.asked
    assert asked.body["generationConfig"]["imageConfig"] == {"aspectRatio": shape}


def test_each_prediction_has_a_name_of_its_own(images):
    names = {images.create(order()).id for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("gemini_") and len(name) > 30 for name in names)


def test_nothing_is_known_of_a_picture_afterwards(server, images):
    provider: ImageProvider = images
    assert provider.name == "gemini"
    made = provider.create(order())
    assert provider.read(made.id) is None
    assert provider.cancel(made.id) is None
    provider.close()
    assert len(server.script.asked) == 1


def test_several_threads_order_at_once(server, images):
    together = threading.Barrier(3)
    made = []

    def draw() -> None:
        together.wait()
        made.append(images.create(order()))

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({prediction.id for prediction in made}) == 3
    assert len(server.script.asked) == 3


# --- what goes wrong


@pytest.mark.parametrize(
    "filtered",
    [
        lambda script: script.block(),
        lambda script: script.finish("IMAGE_SAFETY"),
        lambda script: script.fail(CALL, 400, message=f"The prompt {PROMPT} was blocked."),
    ],
    ids=["prompt", "picture", "error"],
)
def test_what_the_filter_stops_is_the_requesters(server, images, filtered):
    filtered(server.script)
    with pytest.raises(PromptRefused) as refused:
        images.create(order())
    assert_discreet(refused.value)
    assert len(server.script.asked) == 1


@pytest.mark.parametrize("http", [429, 500, 503])
def test_a_failure_at_google_is_told_and_the_order_is_not_tried_again(server, images, http):
    server.script.fail(CALL, http, message=PROMPT)
    with pytest.raises(BackendUnavailable) as unavailable:
        images.create(order())
    assert_discreet(unavailable.value)
    assert len(server.script.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        said({"text": PROMPT}),
        said({"inlineData": {"mimeType": "image/png", "data": "R0lGODlh"}}),
        said(),
        {},
        [PROMPT],
    ],
    ids=["text", "GIF", "nothing", "empty", "list"],
)
def test_an_answer_without_a_picture_is_told_and_not_paid_for_twice(server, images, body):
    server.script.say(CALL, body)
    with pytest.raises(BackendUnavailable) as unavailable:
        images.create(order())
    assert_discreet(unavailable.value)
    assert len(server.script.asked) == 1


@pytest.mark.parametrize("model", [MODEL, "gemini-9-image"], ids=["403", "404"])
def test_what_the_operator_must_mend_is_the_operators(server, images, model):
    if model == MODEL:
        server.script.fail(CALL, 403, message=PROMPT)
    with pytest.raises(ModelUnavailable) as refused:
        images.create(order(model=model))
    assert_discreet(refused.value)


def test_nobody_is_asked_without_a_name_to_ask_under(server):
    with pytest.raises(ModelUnavailable, match=r"vertex\.project"):
        GeminiImages(Vertex(base_url=server.url)).create(order())
    assert server.script.asked == []


@pytest.mark.parametrize(
    "befalls",
    [lambda script: script.hang_up(CALL), lambda script: script.delay(CALL, 1.5)],
    ids=["hung up", "too late"],
)
def test_an_order_without_an_answer_may_run_or_not(server, section, befalls):
    befalls(server.script)
    images = GeminiImages(section.model_copy(update={"request_seconds": 0.5}))
    with pytest.raises(ProviderSilent) as silent:
        images.create(order())
    assert_discreet(silent.value)
    assert len(server.script.asked) == 1


def test_an_order_that_reached_nobody_does_not_run(section):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    images = GeminiImages(section.model_copy(update={"base_url": url}))
    with pytest.raises(BackendUnavailable) as unavailable:
        images.create(order())
    assert_discreet(unavailable.value)


@pytest.mark.parametrize(
    ("content", "aspect_ratio"),
    [(b"GIF89a", "1:1"), (b"GIF89a", None), (png(header(0, 9)), None), (png(), None)],
)
def test_what_is_no_picture_is_not_sent(server, images, content, aspect_ratio):
    broken = InputPicture(content=content, content_type="image/png")
    with pytest.raises(InvalidRequest) as refused:
        images.create(order(broken, aspect_ratio=aspect_ratio))
    assert refused.value.field == "image"
    assert server.script.asked == []


def test_no_prompt_no_picture_and_no_key_reaches_a_log(server, images, caplog):
    hear_everything(caplog)
    server.script.fail(CALL, 503, message=PROMPT)
    with pytest.raises(BackendUnavailable):
        images.create(order(picture()))
    images.create(order(picture()))
    assert caplog.records
    secrets = (PROMPT, API_KEY, base64.b64encode(picture().content).decode()[:40])
    for line in map(logging.Formatter().format, caplog.records):
        assert not [secret for secret in secrets if secret in line]
