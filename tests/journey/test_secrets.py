"""Secrets in every input of the running services, and none of them in anything that they tell.

One API, a worker that renders here and one that orders elsewhere, on a machine where Vertex AI and Replicate are
emulated, with traces on. What they print, trace, count and answer is kept, and searched for each secret.
"""

import base64
import json
import os
import secrets
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
import psutil
import pytest

from services.cli.client_key import client_key
from services.emulators.otlp import otlp_collector
from services.emulators.replicate import replicate_server
from services.emulators.replicate_script import Fails
from services.emulators.vertex import PROJECT, vertex_server
from services.emulators.vertex_script import Failed, Filtered
from shared.config import load_config
from tests.journey.installation import (
    free_port,
    install,
    running_api,
    running_worker,
    wait_for,
    wait_until_answers,
)


def _planted(kind):
    """Letters and digits, so that it looks the same however it is quoted."""
    return f"Xq{kind}{secrets.token_hex(8)}"


PROMPT = _planted("prompt")
NEGATIVE = _planted("negative")
PICTURE_PROMPT = _planted("picture")
TOKEN = _planted("token")
FOLDER = _planted("folder")
WEBHOOK = _planted("webhook")
FOREIGN = _planted("foreign")  # a key that is none of ours
COOKIE = _planted("cookie")
PARAMETER = _planted("parameter")
BODY = _planted("body")
GOOGLES = _planted("google")

WHOLE_PROMPT = f"an otter called {PROMPT} who juggles"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(WEBHOOK.encode()).decode()


@dataclass
class Told:
    """Everything that left the services, by where it went."""

    secrets: dict[str, str] = field(default_factory=dict)
    sinks: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    handed: set[str] = field(default_factory=set)  # names of variables that processes were given

    def text(self, sink):
        return "\n".join(self.sinks[sink])


@pytest.fixture(scope="module")
def told(tmp_path_factory, demo_model_dir):
    told = Told()
    folder = tmp_path_factory.mktemp("told") / FOLDER
    folder.mkdir()
    with ExitStack() as running:
        collector = running.enter_context(otlp_collector())
        vertex = running.enter_context(vertex_server(polls=1))
        replicate = running.enter_context(
            replicate_server(seconds=0.2, polls=None, token=f"r8_{TOKEN}", secret=WEBHOOK_SECRET)
        )
        installation = _installation(folder, demo_model_dir, collector, vertex, replicate)
        key = client_key(load_config(installation.config_file)).secret
        api = running.enter_context(running_api(installation.config_file))
        here = running.enter_context(running_worker(installation.config_file, name="here"))
        elsewhere = running.enter_context(
            running_worker(installation.config_file, "--backend", "veo3", name="elsewhere")
        )
        wait_until_answers(installation.url, api)
        client = running.enter_context(installation.client(key=key))
        client.event_hooks = {"response": [lambda reply: _keep_refusal(told, reply)]}

        _render(told, client, collector)
        _have_rendered(told, client, vertex)
        _have_pictures_made(told, client, replicate, installation)
        _ask_wrongly(installation, client)

        told.secrets |= {
            "the API key": key.split("_", 2)[2],
            "the service account's key": _private_key(folder / "account.json")[40:90],
            "the service account's file": "BEGIN PRIVATE KEY",
        }
        for port in (installation.config["server"]["port"], *_worker_ports(installation)):
            told.sinks["metrics"].append(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        for process in (api, here, elsewhere):
            _look_at_processes(told, process.pid)
        _check_that_secrets_were_used(vertex, replicate, told)
    told.sinks["logs"] += [
        (folder / f"{name}.log").read_text() for name in ("api", "here", "elsewhere")
    ]
    told.sinks["spans"] += [span.text for span in collector.spans]
    return told


def _installation(folder, demo_model_dir, collector, vertex, replicate):
    (folder / "token").write_text(f"r8_{TOKEN}")
    (folder / "secret").write_text(WEBHOOK_SECRET)
    vertex.write_key_file(folder / "account.json")
    installation = install(
        folder,
        demo_model_dir,
        fallback_backend="veo3",
        telemetry={"traces": "otlp", "otlp_endpoint": collector.url},
        worker={"metrics_port": free_port(), "max_attempts": 2},
        vertex={
            "base_url": vertex.url,
            "project": PROJECT,
            "credentials_file": "account.json",
            "poll_seconds": 0.2,
            "max_retries": 0,
        },
        images={
            "stale_seconds": 1,
            "replicate": {
                "api_token_file": "token",
                "webhook_secret_file": "secret",
                "base_url": replicate.url,
                "output_hosts": [replicate.url],
            },
        },
        plans={"free": {"images_per_month": 20, "images_in_flight": 1}},
    )
    installation.config["server"]["public_url"] = installation.url
    installation.write_config()
    return installation


def _look_at_processes(told, pid):
    """What any user of the machine may see of them; and what they were handed beside what we have."""
    process = psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        told.sinks["process lists"].append(" ".join(each.cmdline()))
        handed = set(each.environ().items()) - set(os.environ.items())
        # Where the configuration is, is no secret; in these tests the folder's name is made to look like one.
        told.sinks["process lists"] += [
            f"{name}={value}"
            for name, value in handed
            if name not in {"PROMPTREEL_CONFIG", "TMPDIR"}
        ]
        told.handed |= {name for name, _ in handed}


def _worker_ports(installation):
    port = installation.config["worker"]["metrics_port"]
    return port, port + 1


def _private_key(file):
    return "".join(json.loads(file.read_text())["private_key"].splitlines()[1:-1])


def _keep_refusal(told, reply):
    if reply.status_code >= 400:
        reply.read()
        told.sinks["errors"].append(f"{reply.text} {reply.headers.get('Location')}")


def _render(told, client, collector):
    """Here, to the end; then its signed link is used well and badly."""
    headers = {"baggage": f"key={PARAMETER}", "tracestate": f"a={PARAMETER}", "Cookie": COOKIE}
    body = {"model": "wan2.1-demo", "prompt": WHOLE_PROMPT, "negative_prompt": NEGATIVE}
    made = client.post("/v1/videos", json={**body, "seconds": 1}, headers=headers)
    job = wait_for(client, made.raise_for_status().json()["id"], "finished")
    told.sinks["job logs"].append(client.get(f"/v1/jobs/{job['id']}/logs?tail=2000").text)
    link = client.get(f"/v1/jobs/{job['id']}/artifact").json()["url"]
    signature = link.partition("signature=")[2]
    assert len(signature) > 20
    told.secrets["a signed link's query"] = signature
    assert client.get(link).is_success
    assert client.get(link.replace("final_video", "other")).is_error
    assert client.get(link.replace("expires=", "expires=1")).is_error
    assert client.get(f"{link}x").is_error


def _have_rendered(told, client, vertex):
    """Elsewhere, and all that a provider may say when it fails, quoting what it was sent."""
    quoting = f"cannot do '{WHOLE_PROMPT}' for Bearer ya29.{GOOGLES}, see https://x/?key={GOOGLES}"
    order, poll = "predictLongRunning", "fetchPredictOperation"
    mishaps = (
        lambda: vertex.script.fail(order, 400, message=f"The prompt violates: {quoting}"),
        lambda: vertex.script.fail(order, 403, message=quoting, count=2),
        lambda: vertex.script.fail(order, 500, message=quoting, count=2),
        lambda: vertex.script.next_clip(Filtered((f"{quoting} 56562880",))),
        lambda: vertex.script.next_clip(Failed(3, quoting)),
        lambda: vertex.script.say(poll, {"name": quoting, "done": True}, count=2),
        lambda: vertex.script.babble(order, count=2),
    )
    for befall in mishaps:
        befall()
        body = {"model": "veo3", "prompt": WHOLE_PROMPT, "negative_prompt": NEGATIVE, "seconds": 4}
        made = client.post("/v1/videos", json=body).raise_for_status().json()
        job = wait_for(client, made["id"], "finished", "failed")
        told.sinks["errors"].append(json.dumps(job))
        told.sinks["errors"].append(
            json.dumps(client.get(f"/v1/videos/{made['id']}").json()["error"])
        )
        told.sinks["job logs"].append(client.get(f"/v1/jobs/{made['id']}/logs?tail=2000").text)


def _have_pictures_made(told, client, replicate, installation):
    quoting = f"no '{PICTURE_PROMPT}' with r8_{TOKEN} from https://x/?signature={GOOGLES}"
    mishaps = (
        lambda: None,
        lambda: replicate.script.next(Fails(error=quoting)),
        lambda: replicate.script.fail("create", 422, detail=quoting),
        lambda: replicate.script.fail("create", 500, detail=quoting),
        lambda: replicate.script.fail("file", 404, detail=quoting),
    )
    known = []
    for befall in mishaps:
        befall()
        made = client.post("/api/v1/generations", json={"prompt": f"a boat {PICTURE_PROMPT}"})
        if made.is_success:
            known.append(made.json()["predictionId"])
            _wait_for_picture(told, client, made.json()["id"])
    (refused,) = replicate.deliver(
        known[0], secret="whsec_" + base64.b64encode(BODY.encode()).decode()
    )
    assert refused >= 400
    headers = {"webhook-id": BODY, "webhook-signature": f"v1,{BODY}", "webhook-timestamp": "1"}
    url = f"{installation.url}/api/v1/webhooks/replicate?token={PARAMETER}"
    assert client.post(url, content=BODY, headers=headers).is_error


def _wait_for_picture(told, client, generation_id):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        seen = client.get(f"/api/v1/generations/{generation_id}").json()
        if seen["status"] in {"succeeded", "failed", "canceled"}:
            # The owner's own prompt is his to read; an error is to quote nobody.
            told.sinks["errors"].append(json.dumps(seen.get("error")))
            return
        time.sleep(0.1)
    raise AssertionError(seen)


def _ask_wrongly(installation, client):
    """With keys that are none, and bodies that are nonsense."""
    strangers = (
        {"Authorization": f"Bearer pr_0a0b_{FOREIGN}"},
        {"Authorization": f"Basic {FOREIGN}"},
        {"Authorization": FOREIGN},
        {"X-Api-Key": FOREIGN, "Cookie": f"session={COOKIE}"},
    )
    with httpx.Client(base_url=installation.url, event_hooks=client.event_hooks) as stranger:
        for headers in strangers:
            assert stranger.get(f"/v1/jobs?api_key={PARAMETER}", headers=headers).is_error
            assert stranger.post("/v1/jobs", json={"prompt": PROMPT}, headers=headers).is_error
    odd_id = {"X-Request-ID": f"pr_0a0b_{FOREIGN}", "Idempotency-Key": BODY}
    for path in ("/v1/jobs", "/generate", "/v1/videos", "/api/v1/generations"):
        for body in (
            {"prompt": [WHOLE_PROMPT]},
            {"prompt": WHOLE_PROMPT * 200},
            {"prompt": {"text": WHOLE_PROMPT}},
            {"prompt": WHOLE_PROMPT, "unknown": BODY},
            {"prompt": "", "negative_prompt": NEGATIVE, "seconds": BODY, "duration": BODY},
            [BODY],
            BODY,
        ):
            assert client.post(path, json=body, headers=odd_id).is_error
        for content in (f'{{"prompt": "{PROMPT}"', BODY, f"\xff{BODY}".encode("latin-1")):
            json_type = {"Content-Type": "application/json"}
            assert client.post(path, content=content, headers=json_type).is_error
            assert client.post(path, content=content, headers={"Content-Type": BODY}).is_error
    assert client.get(f"/v1/jobs/{PARAMETER}?prompt={quote(WHOLE_PROMPT)}").is_error
    assert client.get(f"/nowhere/{PARAMETER}?key={PARAMETER}").is_error
    assert client.get(f"/outputs/{PARAMETER}?expires=1&signature={PARAMETER}").is_error


def _check_that_secrets_were_used(vertex, replicate, told):
    """Else there would be nothing to leak."""
    asked = [json.dumps(asked.body) + str(dict(asked.headers)) for asked in vertex.script.asked]
    assert any(PROMPT in text for text in asked)
    tokens = {text.partition("Bearer ")[2][:45] for text in asked if "Bearer ya29." in text}
    told.secrets["an access token"] = next(iter(tokens)).partition(".")[2][:20]
    asked = [json.dumps(asked.body) + str(dict(asked.headers)) for asked in replicate.asked]
    assert any(PICTURE_PROMPT in text for text in asked)
    assert any(TOKEN in text for text in asked)


PLANTED = {
    "a prompt": PROMPT,
    "a negative prompt": NEGATIVE,
    "a picture's prompt": PICTURE_PROMPT,
    "a provider's token": TOKEN,
    "a webhook secret": WEBHOOK,
    "a webhook secret as it is written": WEBHOOK_SECRET.removeprefix("whsec_"),
    "the folder of the data": FOLDER,
    "somebody's key": FOREIGN,
    "a cookie": COOKIE,
    "a query parameter": PARAMETER,
    "nonsense in a body": BODY,
    "what a provider has quoted": GOOGLES,
}
RUNTIME = (
    "the API key",
    "a signed link's query",
    "an access token",
    "the service account's key",
    "the service account's file",
)
SINKS = ("logs", "spans", "metrics", "errors", "job logs", "process lists")


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("name", [*PLANTED, *RUNTIME])
def test_no_secret_is_told(told, name, sink):
    secret = PLANTED.get(name) or told.secrets[name]
    assert len(secret) >= 16
    lines = [line for line in told.text(sink).splitlines() if secret in line]
    assert not lines, lines[:3]


def test_there_was_much_to_tell(told):
    logs, spans, metrics, errors, job_logs, processes = (told.text(sink) for sink in SINKS)
    for message in ("job accepted", "job claimed", "job ended", "request", "model loaded"):
        assert f'"message": "{message}"' in logs
    for span in ("POST /v1/videos", "consume render-remote", "render process", "denoising"):
        assert f'name: "{span}"' in spans
    assert "promptreel_job_retries_total{" in metrics
    assert 'promptreel_phase_seconds_count{phase="generation"}' in metrics
    assert len(told.sinks["errors"]) > 80
    assert "prompt_refused" in errors
    assert "attempt 1 of 2" in job_logs
    for module in ("services.api.main", "services.gpu_worker.pull", "render_process"):
        assert module in processes


def test_no_process_is_handed_a_secret_by_its_environment(told):
    assert "PROMPTREEL_CONFIG" in told.handed
    # Python's own, of who starts render processes.
    assert told.handed <= {
        "PROMPTREEL_CONFIG",
        "TMPDIR",
        "KINETO_LOG_LEVEL",
        "PWD",
        "OLDPWD",
        "SHLVL",
    }
