"""The fuzzers' targets, for seconds: that they get through to what they are to try, and that they can fail."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.fuzz import targets
from tests.fuzz.targets import TARGETS

FEW = settings(max_examples=60, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def quiet():
    targets.keep_quiet()
    yield
    targets.structlog.reset_defaults()


def changed(seed: bytes):
    """What lies near to something that gets through: a piece of it is another one."""
    return some.builds(
        lambda start, length, piece: seed[:start] + piece + seed[start + length :],
        some.integers(0, len(seed)),
        some.integers(0, 8),
        some.binary(max_size=8),
    )


# Where a form breaks off, Werkzeug leaves the beginning of a file to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*SpooledTemporaryFile")
@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_sent_is_taken_or_refused_as_it_is_written(name):
    target = TARGETS[name]

    @FEW
    @given(some.one_of(some.binary(max_size=200), *map(changed, target.seeds)))
    def holds(data):
        target.try_it(data)

    holds()


@pytest.mark.parametrize(
    ("name", "parser"),
    [
        ("envelope", "parse_push"),
        ("message", "decode"),
        ("form", "read_body"),
        ("webhook", "prediction_of"),
        ("configuration", "load_config"),
        ("url", "read_url"),
    ],
)
def test_a_parser_that_fails_in_another_way_is_noticed(name, parser, monkeypatch):
    """And by a seed: it gets as far as that."""

    def broken(*_, **__):
        raise KeyError("a bug")

    monkeypatch.setattr(targets, parser, broken)
    with pytest.raises(KeyError, match="a bug"):
        TARGETS[name].try_it(TARGETS[name].seeds[0])


def test_the_link_to_begin_with_is_good():
    path, _, query = TARGETS["link"].seeds[0].decode().partition("?")
    made = targets.store().link(targets.FILE, expires_in_seconds=60, now=targets.NOW)
    assert made.url == f"/outputs/{path}?{query}"


def test_a_link_that_anybody_could_make_is_noticed(monkeypatch):
    monkeypatch.setattr("shared.adapters.local.disk_artifacts.hmac.compare_digest", lambda *_: True)
    with pytest.raises(AssertionError):
        TARGETS["link"].try_it(
            b"videos/2026-01/job_1/final_video.mp4?expires=9999999999&signature=x"
        )


def test_a_webhook_without_a_signature_is_noticed(monkeypatch):
    monkeypatch.setattr("services.api.images.webhook._verify", lambda *_: None)
    with pytest.raises(AssertionError, match="without its signature"):
        TARGETS["webhook"].try_it(b"v1,AAAA\n{}")
