"""What goes wrong at Vertex AI: whose fault it is, whether to ask again, and what nobody is told."""

import logging
from dataclasses import replace

import pytest

from services.emulators.vertex import API_KEY, PROJECT, vertex_server
from services.emulators.vertex_script import Failed, Filtered
from services.gpu_worker.backends.veo import Done, OperationLost, Veo
from shared.adapters.vertex.connection import Vertex, VertexAccess
from shared.adapters.vertex.still import Still
from shared.errors import BackendUnavailable, ModelUnavailable, PromptRefused
from tests.unit.vertex_under_test import (
    POLL,
    PROMPT,
    REQUEST,
    SUBMIT,
    Told,
    assert_discreet,
    connected,
    finished,
    hear_everything,
)


@pytest.fixture
def server():
    with vertex_server(polls=1) as running:
        yield running


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def veo(server, told):
    with connected(server, told) as vertex:
        yield Veo(vertex)


# --- the filter


@pytest.mark.parametrize(
    "outcome",
    [
        Filtered(),
        Filtered((f'The prompt "{PROMPT}" violates Vertex AI\'s usage guidelines.',)),
        Failed(3, f"The prompt {PROMPT} could not be submitted. It violates our usage guidelines."),
        Failed(9, "Your current safety filter threshold prohibited one or more words."),
    ],
)
def test_a_filtered_clip_is_the_requesters(server, veo, told, outcome):
    server.script.next_clip(outcome)
    with pytest.raises(PromptRefused) as refused:
        finished(veo)
    assert "filter" in str(refused.value)
    assert not refused.value.retry
    assert_discreet(refused.value)
    assert told.slept_seconds == []


def test_a_prompt_that_is_filtered_at_once_is_the_requesters(server, veo):
    message = f"The prompt could not be submitted: {PROMPT} violates the Responsible AI practices."
    server.script.fail(SUBMIT, 400, message=message)
    with pytest.raises(PromptRefused) as refused:
        veo.submit(REQUEST)
    assert_discreet(refused.value)


# --- the operator's


@pytest.mark.parametrize(
    ("error", "names"),
    [
        ((400, "INVALID_ARGUMENT", "API_KEY_INVALID"), "vertex.api_key_file"),
        ((400, "FAILED_PRECONDITION", None), "vertex.api_key_file"),
        ((401, "UNAUTHENTICATED", None), "vertex.credentials_file"),
        ((403, "PERMISSION_DENIED", "SERVICE_DISABLED"), "roles/aiplatform.user"),
        ((501, "UNIMPLEMENTED", None), "vertex.veo_model, planner or image_generation_model"),
    ],
)
def test_what_the_operator_must_mend_says_what_and_is_not_tried_again(
    server, veo, told, error, names
):
    http, status, reason = error
    server.script.fail(SUBMIT, http, status, reason=reason, message=f"It is about {PROMPT}.")
    with pytest.raises(ModelUnavailable) as unavailable:
        veo.submit(REQUEST)
    assert names in str(unavailable.value)
    assert f"({http} {status}{f', {reason}' if reason else ''})" in str(unavailable.value)
    assert_discreet(unavailable.value)
    assert told.slept_seconds == []


def test_a_model_that_is_not_there_names_the_key_to_mend(veo):
    with pytest.raises(ModelUnavailable, match=r"veo-3\.9-generate.*vertex\.veo_model"):
        veo.submit(replace(REQUEST, model="veo-3.9-generate"))


def test_a_model_name_cannot_lead_elsewhere(server, veo):
    with pytest.raises(ModelUnavailable):
        veo.submit(replace(REQUEST, model="../../v1/projects/other"))
    assert server.script.asked == []


def test_a_wrong_api_key_is_the_operators_and_is_not_told(server):
    with (
        connected(server, api_key="wrong-key") as vertex,
        pytest.raises(ModelUnavailable, match="API_KEY_INVALID") as unavailable,
    ):
        Veo(vertex).submit(REQUEST)
    assert_discreet(unavailable.value, "wrong-key")


def test_a_foreign_project_is_the_operators(server, tmp_path):
    server.write_key_file(tmp_path / "key.json")
    access = {"api_key": None, "project": "theirs", "credentials_file": tmp_path / "key.json"}
    with connected(server, **access) as vertex, pytest.raises(ModelUnavailable, match="403"):
        Veo(vertex).submit(REQUEST)


def test_a_token_that_google_does_not_give_is_the_operators(server, tmp_path):
    with vertex_server() as other:
        other.write_key_file(tmp_path / "key.json")
        key = (tmp_path / "key.json").read_text().replace(other.url, server.url)
    (tmp_path / "key.json").write_text(key)
    access = {"api_key": None, "project": PROJECT, "credentials_file": tmp_path / "key.json"}
    with (
        connected(server, **access) as vertex,
        pytest.raises(ModelUnavailable, match=r"vertex\.credentials_file") as unavailable,
    ):
        Veo(vertex).submit(REQUEST)
    assert_discreet(unavailable.value, str(tmp_path))


def test_without_a_key_file_the_environments_own_credentials_ask(server, tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with (
        connected(server, api_key=None, project=PROJECT) as vertex,
        pytest.raises(ModelUnavailable, match=r"vertex\.credentials_file") as unavailable,
    ):
        Veo(vertex).submit(REQUEST)
    assert_discreet(unavailable.value, str(tmp_path))
    server.write_key_file(tmp_path / "key.json")
    with connected(server, api_key=None, project=PROJECT) as vertex:
        assert Veo(vertex).submit(REQUEST)


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_key_file_that_cannot_be_read_is_the_operators(tmp_path, content):
    if content is not None:
        (tmp_path / "key.json").write_text(content)
    access = VertexAccess(project=PROJECT, credentials_file=tmp_path / "key.json")
    with pytest.raises(ModelUnavailable, match=r"vertex\.credentials_file") as unavailable:
        Vertex(access)
    assert_discreet(unavailable.value, str(tmp_path))


def test_somebody_must_ask():
    with pytest.raises(ModelUnavailable, match=r"vertex\.project"):
        Vertex(VertexAccess())


# --- nobody's


@pytest.mark.parametrize("http", [408, 429, 499, 500, 502, 503, 504])
def test_what_passes_is_waited_out_longer_each_time(server, veo, told, http):
    server.script.fail(SUBMIT, http, count=3, message=PROMPT)
    assert veo.submit(REQUEST)
    assert told.slept_seconds == [1, 2, 4]
    assert len(told.lines) == 3
    assert all(f"({http} " in line for line in told.lines)


@pytest.mark.parametrize("call", [SUBMIT, POLL])
def test_after_the_last_retry_somebody_else_must_wait(server, veo, told, call):
    server.script.fail(call, 503, count=4)
    with pytest.raises(BackendUnavailable) as unavailable:
        finished(veo)
    assert not isinstance(unavailable.value, OperationLost)
    assert unavailable.value.retry
    assert_discreet(unavailable.value)
    assert told.slept_seconds == [1, 2, 4]
    assert server.script.pending == 0


@pytest.mark.parametrize(
    ("said", "pause"),
    [
        ({"retry_after": "17"}, 17),
        ({"retry_after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30),
        ({"retry_after": "0"}, 1),
        ({"retry_after": "soon"}, 1),
        ({"retry_delay": "21.5s"}, 21.5),
    ],
)
def test_who_says_when_to_come_back_is_not_asked_before(server, veo, told, said, pause):
    server.script.fail(SUBMIT, 429, **said)
    assert veo.submit(REQUEST)
    assert told.slept_seconds == [pause]


def test_who_says_much_later_is_left_to_a_later_attempt(server, veo, told):
    server.script.fail(SUBMIT, 429, retry_after="3600")
    with pytest.raises(BackendUnavailable):
        veo.submit(REQUEST)
    assert told.slept_seconds == []


def test_a_wait_can_be_ended_from_outside(server):
    class Stopped(Exception):
        pass

    def stop(_seconds):
        raise Stopped

    server.script.fail(SUBMIT, 503)
    access = VertexAccess(api_key=API_KEY, base_url=server.url)
    with Vertex(access, sleep=stop) as vertex, pytest.raises(Stopped):
        Veo(vertex).submit(REQUEST)


@pytest.mark.parametrize("call", [SUBMIT, POLL])
def test_a_connection_that_breaks_is_tried_again(server, veo, told, call):
    server.script.hang_up(call)
    assert isinstance(finished(veo), Done)
    assert told.slept_seconds == [1]


def test_a_server_that_is_not_there_is_nobodys(told):
    with vertex_server() as server:
        pass
    with connected(server, told) as vertex, pytest.raises(BackendUnavailable) as unavailable:
        Veo(vertex).submit(REQUEST)
    assert_discreet(unavailable.value, server.url)
    assert told.slept_seconds == [1, 2, 4]


def test_a_server_that_is_too_slow_is_tried_again(server, told):
    server.script.delay(SUBMIT, 0.6)
    with connected(server, told, timeout_seconds=0.3) as vertex:
        assert Veo(vertex).submit(REQUEST)
    assert told.slept_seconds == [1]
    assert told.lines == ["Vertex AI did not answer in time. Asking again in 1 s."]


# --- what is told


def test_no_prompt_and_no_key_reaches_a_log(server, veo, told, caplog):
    hear_everything(caplog)
    server.script.fail(SUBMIT, 503, message=PROMPT)
    server.script.babble(POLL)
    assert isinstance(finished(veo), Done)
    server.script.fail(SUBMIT, 400, message=PROMPT)
    with pytest.raises(ModelUnavailable):
        veo.submit(REQUEST)
    assert caplog.records
    for line in (*map(logging.Formatter().format, caplog.records), *told.lines):
        assert PROMPT not in line
        assert API_KEY not in line


def test_what_is_shown_of_a_request_and_an_access_is_safe_to_log():
    request = replace(REQUEST, negative_prompt="rain", first_frame=Still(b"secret", "image/png"))
    assert PROMPT not in repr(request)
    assert "rain" not in repr(request)
    assert "secret" not in repr((request, request.first_frame, Done(b"secret", "video/mp4")))
    assert API_KEY not in repr(VertexAccess(api_key=API_KEY))
