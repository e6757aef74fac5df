import re

import pytest
import yaml
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import validate
from werkzeug.exceptions import default_exceptions

from services.api.app import described
from services.api.errors import STATUSES
from services.api.images.words import SURFACE
from services.api.specification import operations_of, specification_of
from shared.config import load_config
from tests.unit.api_under_test import assert_error, running_api

# What is not described: the description itself.
PAGES = {"/docs", "/docs/assets/{name}", "/openapi.yaml"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with running_api(tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture(scope="module")
def specification(api):
    reply = api.anonymous.get("/openapi.yaml")
    assert reply.status_code == 200
    return yaml.safe_load(reply.text)


def operations(specification):
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def examples(specification):
    """Every body and every reply: what it is of, its media type, and how it is told of."""
    for name, operation in operations(specification):
        bodies = {"body": operation.get("requestBody", {}), **operation["responses"]}
        for part, body in bodies.items():
            for media_type, media in body.get("content", {}).items():
                yield f"{name} {part}", media_type, media


def error_examples(specification):
    for name, operation in operations(specification):
        for status, response in operation["responses"].items():
            for media in response.get("content", {}).values():
                if "error" in media.get("example", {}) and status >= "400":
                    yield name, status, media["example"]["error"]


def test_the_specification_is_valid_openapi(specification):
    validate(specification)
    assert specification["openapi"].startswith("3.1")


def test_every_route_is_described(api, specification):
    rules = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule) for rule in api.app.url_map.iter_rules()
    }
    assert set(specification["paths"]) == rules - PAGES


def test_every_operation_says_what_it_does_and_how_it_refuses(specification):
    for name, operation in operations(specification):
        assert operation["summary"], name
        assert operation["tags"], name
        assert "500" in operation["responses"], name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            if int(status) >= 400 and not (name.startswith("GET") and status == "503"):
                schema = response["content"]["application/json"]["schema"]
                shape = "VideoErrorReply" if " /v1/videos" in name else "ErrorReply"
                assert schema["$ref"].endswith(f"/{shape}"), (name, status)


def test_no_two_operations_have_one_name(specification):
    names = [operation["operationId"] for _, operation in operations(specification)]
    assert all(names)
    assert len(set(names)) == len(names)


def test_every_body_and_every_reply_but_a_file_has_an_example(specification):
    without = {
        media_type for _, media_type, media in examples(specification) if "example" not in media
    }
    assert without == {"video/mp4"}


def test_every_example_is_what_it_is_an_example_of(specification):
    for where, media_type, media in examples(specification):
        if "example" in media:
            schema = {**media["schema"], "components": specification["components"]}
            problems = OAS31Validator(schema, format_checker=oas31_format_checker).iter_errors(
                media["example"]
            )
            assert not list(problems), (where, media_type)


def test_every_field_of_a_reply_is_in_its_example(specification):
    """But for those that errors have only at times."""
    for where, media_type, media in examples(specification):
        name = media["schema"].get("$ref", "").rpartition("/")[2]
        if name and media_type == "application/json" and not where.endswith("body"):
            schema = specification["components"]["schemas"][name]
            assert set(media["example"]) == set(schema["properties"]), where


def test_an_error_is_told_as_it_would_be(specification):
    told_as = {}
    for error, status in STATUSES.items():
        told_as.setdefault(str(status), set()).add(error.code)
    for status, error in default_exceptions.items():
        told_as.setdefault(str(status), set()).add(error().name.lower().replace(" ", "_"))
    told_as["413"].add("body_too_large")
    told_as["422"].add("invalid_request")
    told_as["502"].add("render_crashed")
    told_as["500"].add("internal_error")
    told_as["416"].add("range_not_satisfiable")
    for name, status, error in error_examples(specification):
        assert error["message"].endswith("."), (name, status)
        if f" {SURFACE}/" in name:
            assert re.fullmatch("[A-Z_]+", error["code"]), (name, status)
        else:
            assert error["code"] in told_as[status], (name, status, error["code"])


def test_a_call_without_a_body_is_not_told_of_one(specification):
    operations_by_name = dict(operations(specification))
    for name, status, error in error_examples(specification):
        if "requestBody" not in operations_by_name[name]:
            assert "prompt" not in error["message"], (name, status)
            assert error["code"] != "idempotency_conflict", (name, status)


def test_what_was_created_leads_to_what_can_be_done_with_it(specification):
    for where, created, then in (
        ("/v1/jobs", "202", {"read_job", "cancel_job", "stream_events", "output"}),
        ("/v1/videos", "200", {"read_video", "remix_video", "read_content", "output"}),
        ("/generate", "202", {"read_job"}),
        ("/api/v1/generations", "202", {"read_generation", "change_generation"}),
    ):
        reply = specification["paths"][where]["post"]["responses"][created]
        assert then <= set(reply["links"]), where
        for link in reply["links"].values():
            (parameter,) = link["parameters"]
            path = next(
                path
                for path, operation in operations_of(specification)
                if operation["operationId"] == link["operationId"]
            )
            assert f"{{{parameter}}}" in path


def test_what_may_be_asked_for_is_what_this_installation_offers(tmp_path):
    changes = {
        "limits": {"prompt_max_chars": 77, "log_lines_per_job": 99},
        "artifacts": {"link_max_seconds": 4000},
        "generate": {"wait_seconds": 0.05},
    }
    with running_api(tmp_path, **changes) as api:
        specification = yaml.safe_load(api.anonymous.get("/openapi.yaml").text)
        schemas = specification["components"]["schemas"]
        assert schemas["JobRequest"]["properties"]["prompt"]["maxLength"] == 77
        asked = schemas["GenerateRequest"]["properties"]
        assert asked["resolution"]["enum"] == ["480p", "240p"]
        for name, path, bound in (
            ("tail", "/v1/jobs/{job_id}/logs", 99),
            ("expires_in", "/v1/jobs/{job_id}/artifact", 4000),
        ):
            parameters = specification["paths"][path]["get"]["parameters"]
            schema = next(each["schema"] for each in parameters if each["name"] == name)
            assert (schema["minimum"], schema["maximum"]) == (1, bound)
        for duration in range(8):
            body = {"prompt": "a cat", "duration": duration}
            accepted = api.client.post("/generate", json=body).status_code == 202
            bounds = asked["duration"]
            assert accepted == (bounds["minimum"] <= duration <= bounds["maximum"])


def test_the_specification_says_which_operations_need_a_key(api, specification):
    for name, operation in operations(specification):
        method, path = name.split()
        asked = re.sub(r"{\w+}", "x", path)
        needs_key = api.anonymous.open(asked, method=method).status_code == 401
        assert needs_key == ({"key": []} in operation.get("security", [])), name


@pytest.mark.parametrize(
    "changes",
    [
        {"render": {"preset": "fast"}},
        {"models": {"wan2.1-demo": {"dir": "model"}}},
        {"render": {"model": "wan2.1"}, "models": {"wan2.1": {"dir": "model"}}},
        {"default_backend": "veo3", "vertex": {"project": "p"}},
        {"fallback_backend": "veo3", "vertex": {"project": "p"}},
        {"plans": {"free": {"image_models": []}}},
    ],
)
def test_whatever_is_offered_the_specification_is_valid(tmp_path, changes):
    file = tmp_path / "promptreel.yaml"
    file.write_text(yaml.safe_dump(changes))
    specification = yaml.safe_load(specification_of(described(load_config(file))))
    validate(specification)
    for path in ("/v1/videos", "/api/v1/generations"):
        for media in specification["paths"][path]["post"]["requestBody"]["content"].values():
            OAS31Validator.check_schema(media["schema"])


def test_only_who_can_begin_a_video_with_a_picture_takes_one(tmp_path):
    for models, takes_one in (
        ({"wan2.1-demo": {"dir": "model", "image_to_video": "another"}}, True),
        ({"wan2.1-demo": {"dir": "model"}}, False),
    ):
        file = tmp_path / "promptreel.yaml"
        file.write_text(yaml.safe_dump({"models": models, "render": {"model": "wan2.1-demo"}}))
        specification = yaml.safe_load(specification_of(described(load_config(file))))
        content = specification["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
        assert ("input_reference" in content["multipart/form-data"]["schema"]["properties"]) == (
            takes_one
        )


def test_the_servers_address_is_the_public_one(tmp_path):
    with running_api(tmp_path, server={"public_url": "https://video.example.com"}) as api:
        specification = yaml.safe_load(api.anonymous.get("/openapi.yaml").text)
    assert specification["servers"] == [{"url": "https://video.example.com"}]


def test_the_page_loads_everything_from_this_server(api):
    page = api.anonymous.get("/docs")
    assert page.status_code == 200
    assert page.content_type == "text/html; charset=utf-8"
    assert "://" not in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) == 4
    for asset in assets:
        reply = api.anonymous.get(f"/{asset}")
        assert reply.status_code == 200
        assert len(reply.data) > 100


def test_the_page_starts_with_our_specification_and_tells_nobody_else(api):
    start = api.anonymous.get("/docs/assets/start.js").text
    assert 'url: "openapi.yaml"' in start
    assert "validatorUrl: null" in start


@pytest.mark.parametrize("name", ["none.js", "..%2f__init__.py", "swagger-ui.css.map"])
def test_nothing_else_of_the_package_is_served(api, name):
    assert_error(api.anonymous.get(f"/docs/assets/{name}"), 404, "not_found")
