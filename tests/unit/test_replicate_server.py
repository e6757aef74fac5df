"""Our Replicate does what Replicate does: a test against it must not pass by its mistake."""

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image, UnidentifiedImageError
from replicate.client import Client
from replicate.exceptions import ReplicateError
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from services.emulators.replicate import API_TOKEN, WEBHOOK_SECRET, replicate_server
from services.emulators.replicate_script import Aborts, Fails, NeverEnds, Succeeds

MODEL = "google/nano-banana"
CREATE = f"/v1/models/{MODEL}/predictions"
ORDER = {"input": {"prompt": "a zebra", "aspect_ratio": "16:9"}}


class Crowded(ThreadingHTTPServer):
    request_queue_size = 128  # Python's own lets five knock at once


class Listener:
    """Whoever gets the webhooks: it answers as it is told to, and keeps what came."""

    def __init__(self):
        listener = self
        self.heard: list[tuple[dict, bytes]] = []
        self.statuses: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.heard.append((dict(self.headers), body))
                self.send_response(listener.statuses.pop(0) if listener.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = Crowded(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/told"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def verified(self) -> list[tuple[str, str]]:
        """The webhook-id and the status of all that is truly signed."""
        checker = Webhook(WEBHOOK_SECRET)
        return [
            (headers["webhook-id"], checker.verify(body, headers)["status"])
            for headers, body in self.heard
        ]


@pytest.fixture
def server():
    with replicate_server() as running:
        yield running


@pytest.fixture
def http(server):
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    with httpx.Client(base_url=server.url, headers=headers) as client:
        yield client


@pytest.fixture
def listener():
    with Listener() as running:
        yield running


def created(http, order=ORDER) -> str:
    reply = http.post(CREATE, json=order)
    assert reply.status_code == 201, reply.text
    return reply.json()["id"]


def ended(server, http, outcome=None, order=ORDER) -> dict:
    prediction_id = created(http, order)
    server.predictions.end(prediction_id, outcome)
    return http.get(f"/v1/predictions/{prediction_id}").json()


def picture(http, url) -> Image.Image:
    reply = http.get(url)
    assert reply.status_code == 200
    return Image.open(BytesIO(reply.content))


def data_uri(size=(30, 20)) -> str:
    file = BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


# --- who asks, and what


def test_the_real_client_orders_polls_and_cancels(server):
    transport = httpx.HTTPTransport()
    with transport:
        client = Client(API_TOKEN, base_url=server.url, transport=transport)
        prediction = client.models.predictions.create(MODEL, input=ORDER["input"])
        assert (prediction.status, prediction.model) == ("starting", MODEL)
        prediction = client.predictions.get(prediction.id)
        assert (prediction.status, prediction.output) == ("processing", None)
        assert client.predictions.get(prediction.id).status == "processing"
        assert client.predictions.get(prediction.id).status == "succeeded"
        other = client.models.predictions.create(MODEL, input=ORDER["input"])
        assert client.predictions.cancel(other.id).status == "canceled"
        with pytest.raises(ReplicateError, match="status: 404"):
            client.predictions.get("unknown")
    assert [asked.call for asked in server.asked] == (
        ["create"] + ["read"] * 3 + ["create", "cancel", "read"]
    )
    assert server.asked[0].headers["Authorization"] == f"Bearer {API_TOKEN}"
    assert server.asked[0].body == ORDER


@pytest.mark.parametrize("given", [None, "Bearer made-up", API_TOKEN])
def test_nobody_asks_without_saying_who(server, given):
    headers = {} if given is None else {"Authorization": given}
    for method, path in (
        ("POST", CREATE),
        ("GET", "/v1/predictions/a"),
        ("POST", "/v1/predictions/a/cancel"),
    ):
        reply = httpx.request(method, f"{server.url}{path}", json=ORDER, headers=headers)
        assert reply.status_code == 401
        assert set(reply.json()) == {"title", "detail", "status"}
    assert server.predictions.ids == []


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ({}, 422),
        ([], 400),
        ({"input": {}}, 422),
        ({"input": {"prompt": ""}}, 422),
        ({"input": {"prompt": 7}}, 422),
        ({"input": {"prompt": "a", "negative_prompt": "b"}}, 422),
        ({"input": {"prompt": "a", "aspect_ratio": "2:1"}}, 422),
        ({"input": {"prompt": "a", "output_format": "webp"}}, 422),
        ({"input": {"prompt": "a", "image_input": "https://a.example/b.png"}}, 422),
        ({"input": {"prompt": "a", "image_input": ["b.png"]}}, 422),
        ({"input": {"prompt": "a", "image_input": [7]}}, 422),
        ({"input": {"prompt": "a", "image_input": ["data:image/png;base64,%"]}}, 422),
        ({"input": {"prompt": "a", "image_input": ["data:image/png;base64,AAAA"]}}, 422),
        (ORDER | {"webhook": "/told"}, 422),
        (ORDER | {"webhook": 7}, 422),
        (ORDER | {"webhook": "http://promptreel.example/told"}, 422),
        (ORDER | {"webhook": "ftp://127.0.0.1/told"}, 422),
        (ORDER | {"webhook_events_filter": ["end"]}, 422),
        (ORDER | {"stream": True}, 422),
    ],
)
def test_what_is_wrong_or_not_known_is_refused_and_never_ignored(server, http, order, status):
    reply = http.post(CREATE, json=order)
    assert (reply.status_code, reply.json()["status"]) == (status, status)
    assert server.predictions.ids == []


@pytest.mark.parametrize(
    "order",
    [
        {"input": {"prompt": "a", "image_input": ["https://a.example/b.png", data_uri()]}},
        ORDER | {"webhook": "https://promptreel.example/told"},
        ORDER | {"webhook": "http://127.0.0.1:9/told", "webhook_events_filter": ["completed"]},
        ORDER | {"webhook": "http://localhost:9/told", "webhook_events_filter": []},
    ],
)
def test_what_is_right_is_taken(http, order):
    assert created(http, order)


@pytest.mark.parametrize("path", ["/v1/models/google/veo/predictions", "/v1/files", "/files/a/0.x"])
def test_what_is_not_there_is_404(http, path):
    assert http.request("GET" if path.startswith("/files") else "POST", path, json=ORDER).json()[
        "status"
    ] in (404, 405)


# --- how predictions end


@pytest.mark.parametrize("polls", [0, 1, 3])
def test_a_prediction_is_done_after_as_many_polls_as_were_set(server, http, polls):
    server.predictions.polls = polls
    prediction_id = created(http)
    seen = [http.get(f"/v1/predictions/{prediction_id}").json() for _ in range(polls + 2)]
    assert [one["status"] for one in seen] == ["processing"] * polls + ["succeeded"] * 2
    assert all(one["started_at"] for one in seen)
    assert seen[-1] == seen[-2]


def test_a_prediction_that_nobody_asks_for_ends_when_its_time_has_come(server, http):
    server.script.next(Succeeds(seconds=0.05))
    prediction_id = created(http)
    deadline = time.monotonic() + 60
    while server.predictions.read(prediction_id)["status"] != "succeeded":
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("outcome", "given", "drawn"),
    [
        (Succeeds(), {}, ("JPEG", (336, 192))),
        (Succeeds(as_array=True), {"output_format": "png"}, ("PNG", (336, 192))),
        (Succeeds(pictures=3, format="webp"), {}, ("WEBP", (336, 192))),
        (Succeeds(size=(40, 30)), {"aspect_ratio": "9:16"}, ("JPEG", (40, 30))),
        (
            Succeeds(),
            {"image_input": [data_uri()], "aspect_ratio": "match_input_image"},
            ("JPEG", (30, 20)),
        ),
    ],
)
def test_pictures_are_real_and_as_was_asked_for(server, http, outcome, given, drawn):
    output = ended(server, http, outcome, {"input": ORDER["input"] | given})["output"]
    for url in output if isinstance(output, list) else [output]:
        with picture(http, url) as image:
            image.load()
            assert (image.format, image.size) == drawn


def test_one_picture_is_a_string_and_several_are_an_array_unless_told_otherwise(server, http):
    assert isinstance(ended(server, http, Succeeds())["output"], str)
    assert len(ended(server, http, Succeeds(as_array=True))["output"]) == 1
    assert len(ended(server, http, Succeeds(pictures=3))["output"]) == 3


def test_another_prompt_or_number_gives_another_picture_and_the_same_one_the_same(server, http):
    def contents(prompt):
        order = {"input": {"prompt": prompt, "output_format": "png"}}
        urls = ended(server, http, Succeeds(pictures=2), order)["output"]
        return [http.get(url).content for url in urls]

    assert contents("a zebra") == contents("a zebra")
    assert len({*contents("a zebra"), *contents("a horse")}) == 4


@pytest.mark.parametrize(
    ("outcome", "status", "told"),
    [
        (Fails("It was flagged as sensitive. (E005)"), "failed", (True, True)),
        (Fails("The queue was full.", before_running=True), "failed", (False, True)),
        (Aborts(), "aborted", (False, False)),
        (NeverEnds(), "processing", (True, False)),
        (NeverEnds(starts=False), "starting", (False, False)),
    ],
)
def test_what_has_no_picture_says_how_far_it_came(server, http, outcome, status, told):
    prediction = ended(server, http, outcome)
    assert (prediction["status"], prediction["output"]) == (status, None)
    assert (prediction["started_at"] is not None, prediction["error"] is not None) == told


def test_the_output_may_be_anything_that_a_test_wants_it_to_be(server, http):
    for output in ("http://169.254.169.254/", ["https://a.example/1", 7], {"no": "url"}):
        assert ended(server, http, Succeeds(output=output))["output"] == output


def test_one_that_has_ended_is_not_canceled_and_a_canceled_one_does_not_end(server, http):
    done = ended(server, http)
    assert http.post(f"/v1/predictions/{done['id']}/cancel").json() == done
    canceled = created(http)
    assert http.post(f"/v1/predictions/{canceled}/cancel").json()["started_at"] is None
    server.predictions.end(canceled)
    assert http.get(f"/v1/predictions/{canceled}").json()["status"] == "canceled"


def test_predictions_and_files_are_gone_once_forgotten(server, http):
    done = ended(server, http)
    server.predictions.forget()
    assert http.get(f"/v1/predictions/{done['id']}").status_code == 404
    assert http.post(f"/v1/predictions/{done['id']}/cancel").status_code == 404
    assert http.get(done["output"]).status_code == 404


# --- the script


def test_each_line_of_the_script_befalls_one_request_of_its_call(server, http):
    server.script.fail("create", 429, retry_after="7")
    server.script.fail("read", 503, count=2)
    server.script.next(NeverEnds())
    throttled = http.post(CREATE, json=ORDER)
    assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "7")
    assert server.predictions.ids == []
    path = f"/v1/predictions/{created(http)}"
    assert [http.get(path).status_code for _ in range(3)] == [503, 503, 200]
    assert server.script.pending == 0


@pytest.mark.parametrize("after", [True, False])
def test_a_connection_is_hung_up_after_the_order_was_taken_or_before(server, http, after):
    server.script.hang_up("create", after=after)
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(CREATE, json=ORDER)
    assert len(server.predictions.ids) == after


def test_a_late_answer_and_one_that_is_none_are_about_an_order_that_was_taken(server, http):
    server.script.delay("create", 60)
    with pytest.raises(httpx.ReadTimeout):
        http.post(CREATE, json=ORDER, timeout=0.3)
    server.script.babble("create")
    with pytest.raises(ValueError, match="delimiter"):
        http.post(CREATE, json=ORDER).json()
    server.script.say("create", {"hello": 1}, http=202)
    reply = http.post(CREATE, json=ORDER)
    assert (reply.status_code, reply.json()) == (202, {"hello": 1})
    assert len(server.predictions.ids) == 3


def test_files_are_flaky_moved_broken_slow_or_enormous_when_told_to(server, http):
    url = ended(server, http)["output"]
    server.script.fail("file", 503, count=2)
    assert [http.get(url).status_code for _ in range(3)] == [503, 503, 200]
    server.script.redirect("file", "http://169.254.169.254/")
    assert http.get(url).headers["Location"] == "http://169.254.169.254/"
    server.script.send(b"no picture", Content_Type="image/jpeg")
    with pytest.raises(UnidentifiedImageError):
        picture(http, url)
    for announced in (True, False):
        server.script.pour(100_000, announced=announced)
        reply = http.get(url)
        assert len(reply.content) == 100_000
        assert ("Content-Length" in reply.headers) == announced
    server.script.trickle(pause_seconds=0.0001)
    assert Image.open(BytesIO(http.get(url).content)).format == "JPEG"
    server.script.hang_up("file")
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(url)


# --- webhooks


def test_whoever_ordered_is_told_of_what_it_asked_to_hear(server, http, listener):
    told = {"webhook": listener.url, "webhook_events_filter": ["start", "completed"]}
    server.predictions.end(created(http, ORDER | told))
    server.webhooks.wait()
    assert [status for _, status in listener.verified] == ["processing", "succeeded"]
    assert len({number for number, _ in listener.verified}) == 2
    server.predictions.end(created(http, ORDER | told | {"webhook_events_filter": ["completed"]}))
    http.post(f"/v1/predictions/{created(http, ORDER | told)}/cancel")
    server.predictions.end(created(http, ORDER | told), Aborts())
    server.predictions.end(created(http))
    server.webhooks.wait()
    heard = sorted(status for _, status in listener.verified[2:])
    assert heard == ["aborted", "canceled", "succeeded"]


def test_a_webhook_that_is_not_taken_is_sent_again_with_the_same_id(server, http, listener):
    listener.statuses = [500, 503]
    told = {"webhook": listener.url, "webhook_events_filter": ["completed"]}
    prediction_id = created(http, ORDER | told)
    server.predictions.end(prediction_id)
    server.webhooks.wait()
    assert [one.status for one in server.webhooks.sent] == [500, 503, 200]
    assert len(set(listener.verified)) == 1
    listener.statuses = [404]
    server.predictions.end(created(http, ORDER | told))
    server.webhooks.wait()
    assert len(listener.heard) == 4


def test_webhooks_are_sent_by_hand_often_at_once_and_out_of_order(http, server, listener):
    server.webhooks.by_themselves = False
    prediction_id = created(http, ORDER | {"webhook": listener.url})
    server.predictions.end(prediction_id)
    assert listener.heard == []
    assert server.deliver(prediction_id, times=20, at_once=True) == [200] * 20
    assert server.deliver(prediction_id, event="start") == [200]
    assert [status for _, status in listener.verified] == ["succeeded"] * 20 + ["processing"]
    assert len({number for number, _ in listener.verified}) == 2
    listener.statuses = [503, 401]
    assert server.deliver(prediction_id, times=2) == [503, 401]
    assert server.deliver(prediction_id, url="http://127.0.0.1:9/") == [0]


def test_a_webhook_is_old_forged_or_says_something_else_when_told_to(http, server, listener):
    prediction_id = created(http, ORDER | {"webhook": listener.url})
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    for wrong in (
        {"signed_at": long_ago},
        {"secret": "whsec_c29tZWJvZHkgZWxzZQ=="},
        {"headers": {"webhook-signature": "v1,AAAA"}},
        {"headers": {"webhook-id": "msg_another"}},
    ):
        server.deliver(prediction_id, **wrong)
        with pytest.raises(WebhookVerificationError):
            _ = listener.verified
        listener.heard.clear()
    server.deliver(prediction_id, payload={"status": "anything"})
    assert [status for _, status in listener.verified] == ["anything"]


def test_what_was_sent_by_hand_too_early_does_not_spoil_what_happens_later(http, server, listener):
    prediction_id = created(http, ORDER | {"webhook": listener.url})
    server.deliver(prediction_id)
    server.predictions.end(prediction_id)
    server.webhooks.wait()
    assert [status for _, status in listener.verified] == ["starting", "processing", "succeeded"]
    assert listener.verified[0][0] == listener.verified[2][0]


# --- the server


def test_no_thread_outlives_the_server(listener):
    before = set(threading.enumerate())
    listener.statuses = [500] * 10
    with replicate_server(seconds=0.02) as server:
        server.script.delay("create", 60)
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        order = ORDER | {"webhook": listener.url}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}{CREATE}", json=order, headers=headers, timeout=0.3)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


def test_it_runs_by_itself_until_it_is_told_to_stop(tmp_path):
    files = {"token": tmp_path / "token", "secret": tmp_path / "secret"}
    options = [f"--{name}-file={file}" for name, file in files.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "services.emulators.replicate", "--port=0", *options],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    with process:
        url = process.stdout.readline().rpartition(" ")[2].strip()
        headers = {"Authorization": f"Bearer {files['token'].read_text()}"}
        reply = httpx.post(f"{url}{CREATE}", json=ORDER, headers=headers)
        assert reply.json()["status"] == "starting"
        assert files["secret"].read_text() == WEBHOOK_SECRET
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
