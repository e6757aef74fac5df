"""What a browser is told, of every route: generated from the routes, so that none is forgotten."""

import pytest

from tests.unit.api_under_test import running_api
from tests.unit.every_route import every_call


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with running_api(tmp_path_factory.mktemp("api")) as api:
        yield api


def replies(api):
    """Of every route: to somebody without a key, and to somebody with one."""
    for call in every_call(api.app):
        for client in (api.anonymous, api.client):
            yield call, client.open(call.path, method=call.method)
    yield "nowhere", api.anonymous.get("/nowhere")
    yield "a wrong method", api.client.put("/healthz")


def test_every_reply_forbids_what_a_browser_need_not_do(api):
    seen = 0
    for call, reply in replies(api):
        headers = reply.headers
        assert headers["X-Content-Type-Options"] == "nosniff", call
        assert headers["Referrer-Policy"] == "no-referrer", call
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin", call
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, call
        assert "frame-ancestors 'none'" in policy, call
        assert "unsafe-eval" not in policy, call
        assert "script-src 'unsafe-inline'" not in policy, call
        seen += 1
    assert seen > 100


def test_no_cache_keeps_what_needs_a_key(api):
    for call, reply in replies(api):
        if reply.status_code == 200 and "/docs/assets/" in str(call):
            continue
        assert reply.headers["Cache-Control"] in {"no-store", "private"}, call


def test_nothing_but_a_file_can_be_embedded_by_others(api):
    link = api.link(api.finished())
    with api.anonymous.get(link) as file:
        assert file.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert file.headers["Cache-Control"] == "private"
        assert "media-src 'self'" in file.headers["Content-Security-Policy"]
    for call, reply in replies(api):
        if "/outputs/" not in str(call):
            assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin", call


def test_the_servers_own_version_is_told_to_nobody(api):
    for call, reply in replies(api):
        assert "Werkzeug" not in reply.headers.get("Server", ""), call
        assert "X-Powered-By" not in reply.headers, call
