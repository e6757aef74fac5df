"""Pictures on this machine and as in the cloud: real processes, a provider that speaks its own wire."""

import io
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
from PIL import Image

from services.api.keys.sources import KeyFile, create_key
from services.emulators.replicate import replicate_server
from services.emulators.replicate_script import NeverEnds, Succeeds
from shared.config import load_config
from tests.journey.cloud_installation import in_the_cloud
from tests.journey.picture_installation import (
    GENERATIONS,
    PROMPT,
    Place,
    install_images,
    on_this_machine,
)


@pytest.fixture(scope="module")
def provider():
    with replicate_server(seconds=0.2, polls=None) as provider:
        yield provider


@pytest.fixture
def images(tmp_path, demo_model_dir, provider):
    return install_images(tmp_path, demo_model_dir, provider)


@pytest.fixture(scope="module", params=["local", "gcp"])
def house(request, tmp_path_factory, demo_model_dir, provider):
    """One that no test breaks."""
    folder = tmp_path_factory.mktemp(request.param)
    installation = install_images(folder, demo_model_dir, provider)
    where = on_this_machine if request.param == "local" else in_the_cloud
    with where(installation):
        yield installation


@pytest.fixture
def place(house, provider):
    """An owner of its own for each test: limits are of owners."""
    key_file = load_config(house.config_file).server.key_file
    key = create_key(KeyFile(key_file), f"owner-{time.monotonic_ns()}", datetime.now(UTC))
    with house.client(key=key) as client:
        yield Place(client, provider, asked_before=len(provider.asked))


def wait_until_nobody_answers(client):
    """The process that serves ends a moment after its parent."""
    deadline = time.monotonic() + 60
    while True:
        try:
            client.get("/healthz")
        except httpx.TransportError:
            return
        assert time.monotonic() < deadline


@contextmanager
def by_hand(provider):
    """Only those webhooks are sent that a test sends."""
    provider.webhooks.by_themselves = False
    try:
        yield
    finally:
        provider.webhooks.by_themselves = True


def at_once(count, do):
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(do, range(count)))


def png(color):
    file = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(file, "PNG")
    return file.getvalue()


def test_a_prompt_becomes_a_picture_and_counts_once(place):
    place.provider.script.next(Succeeds(pictures=2, format="webp"))
    accepted = place.order()
    assert accepted.status_code == 202, accepted.text
    seen = place.wait_for(accepted.json(), "succeeded")
    assert len(seen["variants"]) == 2
    for variant in seen["variants"]:
        with Image.open(io.BytesIO(httpx.get(variant["url"]).content)) as made:
            assert (made.format, made.size) == ("JPEG", (variant["width"], variant["height"]))
        with Image.open(io.BytesIO(httpx.get(variant["thumbnailUrl"]).content)) as small:
            assert max(small.size) <= 256
    assert place.used() == 1

    path = f"{GENERATIONS}/{seen['id']}"
    assert place.client.delete(path).status_code == 204
    assert place.read(seen)["variants"] == []


def test_two_pictures_become_one(place):
    reply = place.client.post(
        GENERATIONS,
        data={"prompt": PROMPT, "mode": "combine"},
        files={"input1": ("a.png", png("teal")), "input2": ("b.png", png("coral"))},
    )
    assert reply.status_code == 202, reply.text
    (order,) = [asked.body for asked in place.asked("create")]
    colors = []
    for url in order["input"]["image_input"]:
        fetched = httpx.get(url)
        assert fetched.headers["Content-Type"] == "image/png"
        colors.append(Image.open(io.BytesIO(fetched.content)).getpixel((0, 0)))
    assert colors == [(0, 128, 128), (255, 127, 80)]
    place.wait_for(reply.json(), "succeeded")
    for url in order["input"]["image_input"]:
        assert httpx.get(url).status_code in {404, 410}, "what it started from is gone"


def test_many_submits_with_one_key_are_one_order(place):
    place.provider.script.next(NeverEnds())
    replies = at_once(50, lambda _: place.order(key="boat"))
    assert [reply.status_code for reply in replies] == [202] * 50
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert (place.used(), len(place.asked("create"))) == (1, 1)


def test_one_in_flight_is_one_however_many_come(place):
    place.provider.script.next(NeverEnds())
    replies = at_once(4, lambda _: place.order())
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(refused) == 3, [reply.text for reply in replies]
    assert {reply.json()["error"]["code"] for reply in refused} == {"TOO_MANY_INFLIGHT"}
    assert (place.used(), len(place.asked("create"))) == (1, 1)

    (accepted,) = [reply.json() for reply in replies if reply.status_code == 202]
    canceled = place.client.patch(
        f"{GENERATIONS}/{accepted['id']}", json={"action": "cancel"}
    ).json()
    assert canceled["status"] == "canceled"
    assert place.provider.predictions.read(accepted["predictionId"])["status"] == "canceled"
    assert place.order().status_code == 202


def test_the_month_ends_for_who_has_used_it_up(place):
    for _ in range(4):
        place.wait_for(place.order().json(), "succeeded")
    refused = place.order()
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "LIMIT_EXCEEDED"
    assert int(refused.headers["Retry-After"]) > 0
    assert place.used() == 4


def test_many_webhooks_make_one_set_of_variants(place):
    place.provider.script.next(NeverEnds())
    accepted = place.order().json()
    prediction_id = accepted["predictionId"]
    with by_hand(place.provider):
        place.provider.predictions.end(prediction_id, Succeeds(pictures=2))
        statuses = place.provider.deliver(prediction_id, times=20, at_once=True)
    assert statuses == [200] * 20
    seen = place.wait_for(accepted, "succeeded")
    assert len(seen["variants"]) == 2
    assert len(place.asked("file")) == 2, "one brings them home"
    forged = place.provider.deliver(prediction_id, secret="whsec_c29tZWJvZHkgZWxzZSBzaWducyBpdA==")
    assert forged == [403]


def test_what_never_ran_is_given_back(place):
    place.provider.script.fail("create", 500)
    refused = place.order()
    assert refused.status_code == 502
    assert refused.json()["error"]["code"] == "UPSTREAM_ERROR"
    assert place.used() == 0


def test_the_api_may_die_while_the_provider_draws(images, provider):
    asked_before = len(provider.asked)
    provider.script.next(NeverEnds())
    with on_this_machine(images) as (client, api):
        accepted = Place(client, provider).order(key="boat").json()
        api.send_signal(signal.SIGKILL)
        api.wait()
        wait_until_nobody_answers(client)
    # Its webhook meets nobody; the provider is asked by whoever reads.
    provider.predictions.end(accepted["predictionId"], Succeeds())
    provider.webhooks.wait()
    with on_this_machine(images) as (client, _):
        place = Place(client, provider, asked_before)
        assert place.wait_for(accepted, "succeeded")["variants"]
        assert place.order(key="boat").json()["id"] == accepted["id"]
        assert (place.used(), len(place.asked("create"))) == (1, 1)


def test_the_worker_sweeps_pictures_too(images, provider):
    images.config["images"]["overall_seconds"] = 2
    provider.script.hang_up("create", after=False)
    with images.running(), images.client() as client:
        place = Place(client, provider)
        lost = place.order().json()
        assert lost["predictionId"] is None
        deadline = time.monotonic() + 60
        while place.used() != 0:  # nobody reads the job itself
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert place.read(lost)["error"]["code"] == "UPSTREAM_ERROR"
