"""A journey through a real Angie; which protocol each leg spoke is read from both sides' logs."""

import json
import ssl
import time
from pathlib import Path

import httpx
import pytest

from services.cli.client_key import client_key
from services.emulators.replicate import replicate_server
from shared.config import load_config
from tests.http3_client import Http3Transport
from tests.journey.edge import INTERNAL_NAME, angie, configure, make_certificates, running_edge
from tests.journey.installation import (
    http3_section,
    running_api,
    running_program,
    submit,
    wait_until_answers,
)
from tests.journey.picture_installation import GENERATIONS, install_images
from tests.journey.test_http3 import PROTOCOLS, SCRIPTED_WORKER
from tests.server_sent_events import events_of
from tests.unit.generations_under_test import photograph

if angie() is None:
    pytest.skip("no Angie: put it on PATH, or name it with ANGIE=", allow_module_level=True)


@pytest.fixture(scope="module", params=["http1", "http3"])
def place(request, tmp_path_factory):
    """Angie, an API and a worker; what the other leg speaks is the parameter."""
    program = angie()
    folder = tmp_path_factory.mktemp(f"edge-{request.param}")
    certificates = make_certificates(folder / "certificates")
    secured = http3_section(
        certificates,
        certificate_file=str(certificates / f"{INTERNAL_NAME}.pem"),
        key_file=str(certificates / f"{INTERNAL_NAME}.key"),
    )
    with replicate_server(seconds=0.2, polls=None) as provider:
        house = install_images(folder, folder / "no-model", provider)
        house.config["plans"] = {"free": {"images_per_month": 100, "images_in_flight": 100}}
        server = house.config["server"]
        server["trusted_proxies"] = 1
        if request.param == "http3":
            server["http3"] = secured
        # The provider does not trust this authority: pictures come and go by the plain port.
        house.write_config()
        edge = configure(
            _folder(folder / "angie"),
            certificates,
            plain=server["port"],
            secure=secured["port"],
            upstream=request.param,
        )
        client_key(load_config(house.config_file))
        with (
            running_api(house.config_file) as api,
            running_program([SCRIPTED_WORKER], house.config_file, name="worker"),
            running_edge(program, edge),
        ):
            wait_until_answers(house.url, api)
            yield edge, house, certificates / "ca.pem", request.param


@pytest.fixture(params=PROTOCOLS)
def client(place, request):
    edge, house, authority, _ = place
    key = client_key(load_config(house.config_file)).secret
    with httpx.Client(
        base_url=edge.url,
        headers={"Authorization": f"Bearer {key}"},
        transport=_transport(request.param, authority),
        timeout=60,
    ) as client:
        client.protocol = PROTOCOLS[request.param]
        yield client


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _transport(protocol, authority):
    if protocol == "3":
        return Http3Transport(authority)
    trusting = ssl.create_default_context(cafile=authority)
    return httpx.HTTPTransport(verify=trusting, http1=protocol == "1.1", http2=protocol == "2")


def protocols_of(place, reply):
    """Of the caller's leg, by Angie's log; of the other leg, by the API's."""
    edge, house, _, _ = place
    request_id = reply.headers["x-request-id"]
    deadline = time.monotonic() + 10  # the edge writes it down when all is over
    while not (outers := [line for line in edge.log if line["request_id"] == request_id]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (outer,) = outers
    lines = map(json.loads, (house.folder / "api.log").read_text().splitlines())
    (inner,) = [
        line for line in lines if line["message"] == "request" and line["request_id"] == request_id
    ]
    return outer["protocol"], inner["protocol"]


def test_a_job_goes_through_both_legs(place, client):
    created = client.post("/v1/jobs", json={"prompt": "ok"})
    job_id = created.json()["id"]
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as reply:
        events = list(events_of(reply.iter_raw()))
    assert (events[-1].name, events[-1].data["status"]) == ("end", "finished")
    link = client.get(f"/v1/jobs/{job_id}/artifact").json()["url"]
    path = httpx.URL(link).raw_path.decode()
    video = client.get(path)
    part = client.get(path, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, video.content[1:4])
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")

    outer, inner = (
        client.protocol.replace("HTTP/2", "HTTP/2.0").replace("HTTP/3", "HTTP/3.0"),
        {"http1": "HTTP/1.1", "http3": "HTTP/3"}[place[3]],
    )
    for answered in (created, reply, video, part, head):
        assert protocols_of(place, answered) == (outer, inner)
    assert "signature" not in (place[0].folder / "access.log").read_text()


def test_events_are_not_kept_back(client):
    job_id = submit(client, "slow")
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as reply:
        events = events_of(reply.iter_raw())
        next(event for event in events if event.name == "log")
        # It renders until it is told to stop: what was seen so far came while it did.
        assert client.post(f"/v1/jobs/{job_id}/cancel").json() == {"ok": True}
        assert list(events)[-1].data["status"] == "canceled"


def test_a_picture_of_a_quarter_of_a_megabyte_is_taken(client):
    files = {"input1": ("boat.png", photograph(), "image/png")}
    ordered = client.post(GENERATIONS, data={"prompt": "make the boat red"}, files=files)
    assert ordered.status_code == 202, ordered.text
    deadline = time.monotonic() + 30
    while client.get(ordered.headers["location"]).json()["status"] != "succeeded":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    deleted = client.delete(ordered.headers["location"])
    assert (deleted.status_code, deleted.content) == (204, b"")


def test_what_only_the_edge_knows_is_said_once_and_the_other_leg_is_not_told_of(client):
    headers = client.get("/healthz").headers
    assert headers.get_list("alt-svc") == ['h3=":443"; ma=86400']
    assert headers.get_list("strict-transport-security") == ["max-age=31536000"]


@pytest.mark.parametrize(
    ("status", "path", "more"),
    [
        (404, "/metrics", {}),
        (404, "/internal/sweep", {"method": "POST"}),
        (404, "/no/such/path", {}),
        (413, "/v1/jobs", {"method": "POST", "json": {"prompt": "x" * 100_000}}),
    ],
)
def test_what_the_edge_refuses_has_the_shape_of_the_apis_errors(client, status, path, more):
    refused = client.request(more.get("method", "GET"), path, json=more.get("json"))
    assert refused.status_code == status
    assert set(refused.json()["error"]) == {"code", "message", "request_id"}


def test_headers_without_end_are_refused(client):
    long = {f"X-Long-{number}": "x" * 9_000 for number in range(9)}
    try:
        refused = client.get("/healthz", headers=long)
    except httpx.RemoteProtocolError:
        assert client.protocol == "HTTP/2"  # the connection is closed: its headers are one block
    else:
        assert (refused.status_code, refused.json()["error"]["code"]) == (431, "headers_too_large")


def test_who_asks_too_often_is_told_when_to_come_back(place, client):
    for _ in range(1000):
        reply = client.get("/no/such/path")
        if reply.status_code == 429:
            break
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "too_many_requests")
    assert reply.headers["retry-after"] == "5"
