import io

import pytest

from tests.unit.api_under_test import assert_error, running_api

CREATES = ["/generate", "/v1/jobs"]
LIMIT = 4096


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path, limits={"body_max_bytes": LIMIT}) as api:
        yield api
        assert api.jobs == 0, "a refused request left a job behind"


@pytest.fixture(params=CREATES)
def post(api, request):
    def send(data, content_type="application/json", **more):
        return api.client.post(request.param, data=data, content_type=content_type, **more)

    return send


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "prompt",
        "{'prompt': 'a cat'}",
        '{"prompt": "a cat"',
        '{"prompt": "a cat"} {}',
        '{"prompt": NaN}',
        '{"prompt": Infinity}',
        '{"prompt": "tab\there"}',
        b'{"prompt": "\xff\xfe"}',
        b"\x00",
        " ",
    ],
)
def test_what_is_no_json_is_400(post, body):
    assert_error(post(body), 400, "malformed_body", "Send an object such as")


def test_a_number_of_too_many_digits_is_400(tmp_path):
    with running_api(tmp_path) as api:
        for path in CREATES:
            data = '{"prompt": "a cat", "duration": ' + "9" * 5000 + "}"
            reply = api.client.post(path, data=data, content_type="application/json")
            assert_error(reply, 400, "malformed_body", "valid JSON")
        assert api.jobs == 0


@pytest.mark.parametrize(
    "body", ['"a cat"', '"{\\"prompt\\": \\"a cat\\"}"', "[]", "7", "null", "true"]
)
def test_what_is_no_object_is_400(post, body):
    assert_error(post(body), 400, "malformed_body", "must be one JSON object")


def test_a_missing_body_is_400(post):
    assert_error(post(b""), 400, "malformed_body", "The body is missing", "Send an object")
    assert_error(post(None, content_type=None), 400, "malformed_body", "The body is missing")


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_a_tower_of_brackets_is_400(tmp_path, bracket):
    with running_api(tmp_path) as api:
        for path in CREATES:
            reply = api.client.post(path, data=bracket * 10_000, content_type="application/json")
            assert_error(reply, 400, "malformed_body", "nested too deeply")


@pytest.mark.parametrize("body", ['{"prompt": "a \\ud800 cat"}', '{"\\udfff": "a cat"}'])
def test_half_a_character_is_400(post, body):
    assert_error(post(body), 400, "malformed_body", "lone surrogate")


def test_a_field_given_twice_is_400(post):
    reply = post('{"prompt": "a cat", "prompt": "a dog"}')
    assert_error(reply, 400, "malformed_body", "twice")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None],
)
def test_another_content_type_is_415(post, content_type):
    reply = post('{"prompt": "a cat"}', content_type=content_type)
    assert_error(reply, 415, "unsupported_content_type", "Content-Type: application/json")


def test_the_content_type_may_name_a_charset(api):
    body = '{"prompt": ""}'
    reply = api.client.post("/v1/jobs", data=body, content_type="application/json; charset=utf-8")
    assert_error(reply, 400, "invalid_request", "prompt")


def test_a_body_over_the_limit_is_413(post):
    body = '{"prompt": "' + "a" * LIMIT + '"}'
    assert_error(post(body), 413, "body_too_large", f"more than {LIMIT} bytes", "shorter")


def test_a_body_over_the_limit_that_does_not_say_its_length_is_413(post):
    body = io.BytesIO(b'{"prompt": "a cat"}' + b" " * LIMIT)
    chunked = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}
    reply = post(None, input_stream=body, environ_overrides=chunked)
    assert_error(reply, 413, "body_too_large", f"more than {LIMIT} bytes")


def test_a_large_body_is_413_where_none_is_read(api):
    reply = api.client.post("/v1/jobs/job_1/cancel", data=b"x" * (LIMIT + 1))
    assert_error(reply, 413, "body_too_large")


def test_a_body_of_just_the_limit_is_read(api):
    body = '{"prompt": ""' + " " * (LIMIT - 14) + "}"
    assert len(body) == LIMIT
    reply = api.client.post("/v1/jobs", data=body, content_type="application/json")
    assert_error(reply, 400, "invalid_request", "prompt")
