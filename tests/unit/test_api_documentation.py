import re

import pytest
import yaml
from openapi_spec_validator import validate

from services.api.examples import ERROR_EXAMPLES, EXAMPLES
from shared import schemas
from tests.unit.api_under_test import assert_error, running_api

# What is not described: the description itself.
PAGES = {"/docs", "/docs/assets/{name}", "/openapi.yaml"}


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def specification(api):
    reply = api.anonymous.get("/openapi.yaml")
    assert reply.status_code == 200
    return yaml.safe_load(reply.text)


def operations(specification):
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


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
                assert schema["$ref"].endswith("/ErrorReply"), (name, status)


def test_every_operation_has_an_example(specification):
    for name, operation in operations(specification):
        bodies = [operation.get("requestBody", {"content": {}}), *operation["responses"].values()]
        media = [media for body in bodies for media in body.get("content", {}).values()]
        assert any("example" in each for each in media), name


def test_the_specification_says_which_operations_need_a_key(api, specification):
    for name, operation in operations(specification):
        method, path = name.split()
        asked = re.sub(r"{\w+}", "x", path)
        needs_key = api.anonymous.open(asked, method=method).status_code == 401
        assert needs_key == ({"key": []} in operation.get("security", [])), name


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_it_is_an_example_of(name):
    getattr(schemas, name).model_validate(EXAMPLES[name])


def test_an_error_example_has_the_code_of_its_status():
    for status, (code, message) in ERROR_EXAMPLES.items():
        assert re.fullmatch("[a-z_]+", code), status
        assert message.endswith("."), status


def test_the_servers_address_is_the_public_one(tmp_path):
    with running_api(tmp_path, server={"public_url": "https://video.example.com"}) as api:
        specification = yaml.safe_load(api.anonymous.get("/openapi.yaml").text)
    assert specification["servers"] == [{"url": "https://video.example.com"}]


def test_the_page_loads_everything_from_this_server(api):
    page = api.anonymous.get("/docs")
    assert page.status_code == 200
    assert page.content_type == "text/html; charset=utf-8"
    assert "://" not in page.text
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
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
