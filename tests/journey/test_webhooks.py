"""Being told that a job has ended: by real couriers, on one machine and as in the cloud."""

import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from openai import OpenAI

from tests.journey.cloud_installation import in_the_cloud
from tests.journey.installation import (
    free_port,
    install,
    running_program,
    submit,
    wait_for,
)
from tests.journey.test_client_commands import shell_in
from tests.journey.typed_page import DOCS, Page
from tests.webhook_receiver import webhook_receiver

WEBHOOK = "/v1/webhook"
COURIER = "services.courier.pull"


@pytest.fixture
def receiver():
    with webhook_receiver() as running:
        yield running


@pytest.fixture
def installation(tmp_path, demo_model_dir):
    webhooks = {"allow_private_addresses": True, "request_seconds": 10}
    return install(tmp_path, demo_model_dir, webhooks=webhooks)


def register(client, receiver):
    return client.put(WEBHOOK, json={"url": receiver.url}).raise_for_status().json()["secret"]


def unwrapped(received, secret):
    return OpenAI(api_key="none").webhooks.unwrap(
        received.body, dict(received.headers), secret=secret
    )


def wait_until_delivered(client, job_id):
    deadline = time.monotonic() + 60
    while True:
        delivery = client.get(f"{WEBHOOK}/deliveries/{job_id}").raise_for_status().json()
        if delivery["status"] == "delivered":
            return delivery
        assert time.monotonic() < deadline, delivery
        time.sleep(0.1)


# --- one machine


def test_up_tells_of_a_video_within_a_moment_of_its_end(installation, receiver):
    with installation.running(), installation.client() as client:
        secret = register(client, receiver)
        job_id = submit(client, "a red circle")
        wait_for(client, job_id, "finished")
        (received,) = receiver.wait_for(1, seconds=5)
        event = unwrapped(received, secret)
        assert (event.type, event.data.id) == ("video.completed", job_id)
        assert client.get(f"/v1/videos/{event.data.id}").json()["status"] == "completed"


def test_a_courier_killed_with_a_webhook_in_its_hands_sends_it_again(installation, receiver):
    installation.config["webhooks"]["request_seconds"] = 2
    with installation.running(), installation.client() as client:
        secret = register(client, receiver)
        receiver.answers.clear()
        job_id = submit(client, "a red circle")
        client.post(f"/v1/jobs/{job_id}/cancel")
        receiver.wait_for(1)
        installation.process(COURIER).kill()
        receiver.answers.set()
        # Once nobody can be at it any more: the time a request may take, and a margin.
        first, second = receiver.wait_for(2, seconds=90)
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert unwrapped(second, secret).type == "video.failed"
        wait_until_delivered(client, job_id)


def test_receivers_that_do_not_answer_keep_nothing_from_being_rendered(installation, receiver):
    installation.config["webhooks"]["request_seconds"] = (
        60  # longer than a render on a busy machine
    )
    with installation.running(), installation.client() as client:
        register(client, receiver)
        receiver.answers.clear()
        for number in range(6):
            job_id = submit(client, f"canceled {number}")
            client.post(f"/v1/jobs/{job_id}/cancel")
        receiver.wait_for(4)
        rendered = submit(client, "a red circle")
        wait_for(client, rendered, "finished")
        assert receiver.waiting == 4  # as many as one owner's receiver is asked at once
        receiver.answers.set()
        receiver.wait_for(7, seconds=60)
        wait_until_delivered(client, rendered)


def test_the_command_line_says_where_to_be_told_and_what_came_of_it(
    installation, receiver, tmp_path
):
    installation.config["webhooks"]["retry_seconds"] = [
        600
    ]  # nobody tries again but who is told to
    with installation.running(), installation.client() as client:
        shell = shell_in(
            tmp_path, PROMPTREEL_URL=installation.url, PROMPTREEL_API_KEY=installation.key
        )
        assert "webhook set" in shell("webhook", "deliveries").stderr_text
        assert "PUT /v1/webhook" in shell("webhook", "show", code=4).stderr_text
        secret = shell("webhook", "set", receiver.url).stdout_text.strip()
        receiver.then(500)
        job_id = submit(client, "a red circle")
        client.post(f"/v1/jobs/{job_id}/cancel")
        received = receiver.wait_for(1)[0]
        assert unwrapped(received, secret).type == "video.failed"
        assert shell("webhook", "show").stdout_text.strip() == receiver.url
        assert shell("webhook", "retry", "last").stdout_text == f"{job_id} is told once more\n"
        receiver.wait_for(2)
        wait_until_delivered(client, job_id)
        head, row = shell("webhook", "deliveries").stdout_text.splitlines()
        assert head.split() == ["JOB", "STATUS", "TRIES", "ENDED"]
        assert row.split()[:3] == [job_id, "delivered", "2"]
        (told,) = shell.objects("webhook", "deliveries", "--status", "delivered")
        assert [attempt["status"] for attempt in told["attempts"]] == [500, 204]
        assert shell("webhook", "secret").stdout_text.startswith("whsec_")
        assert shell.objects("webhook", "remove") == [{"removed": True}]


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="the page is about curl, which is not here"
)
def test_the_page_about_webhooks_says_what_happens(installation):
    port = str(free_port())
    with installation.running(), installation.client() as client:
        page = Page("webhooks.md")
        typed = page.type_it(
            installation.folder,
            # With what the project is tested with.
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            URL=installation.url,
            AUTH=f"Authorization: {client.headers['Authorization']}",
            EXAMPLES=str(DOCS / "examples"),
            RECEIVER=f"http://127.0.0.1:{port}/hooks/promptreel",
            RECEIVER_PORT=port,
        )
    assert typed >= 9


# --- as in the cloud


@contextmanager
def told_in_the_cloud(installation, receiver, start_courier, *, push_endpoint=None):
    with (
        in_the_cloud(installation, push_endpoint=push_endpoint) as (client, cloud),
        start_courier(cloud),
    ):
        secret = register(client, receiver)
        job_id = submit(client, "canceled before anybody had it")
        client.post(f"/v1/jobs/{job_id}/cancel")
        yield client, job_id, secret


@pytest.mark.usefixtures("pubsub_emulator_host")  # skips where there are none
def test_a_courier_pulls_in_the_cloud(installation, receiver):
    def start(cloud):
        return running_program(
            ["-m", COURIER], cloud.config_file, name="courier", **cloud.environment
        )

    with told_in_the_cloud(installation, receiver, start) as (client, job_id, secret):
        (received,) = receiver.wait_for(1)
        assert unwrapped(received, secret).data.id == job_id
        wait_until_delivered(client, job_id)


@pytest.mark.usefixtures("pubsub_emulator_host")
def test_a_courier_is_pushed_to_in_the_cloud(installation, receiver):
    """With the entry that Cloud Run starts."""
    port = free_port()

    def start(cloud):
        arguments = "--source services/courier/main.py --target deliver --signature-type http"
        return running_program(
            ["-m", "functions_framework", *arguments.split(), "--port", str(port)],
            cloud.config_file,
            name="courier",
            **cloud.environment,
        )

    endpoint = f"http://127.0.0.1:{port}"
    with told_in_the_cloud(installation, receiver, start, push_endpoint=endpoint) as told:
        client, job_id, _ = told
        (received,) = receiver.wait_for(1)
        assert json.loads(received.body)["data"] == {"id": job_id}
        wait_until_delivered(client, job_id)
