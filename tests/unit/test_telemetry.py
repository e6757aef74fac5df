"""What a log line looks like, and what it never holds."""

import errno
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from prometheus_client import generate_latest
from pydantic import TypeAdapter, ValidationError

from shared.job import RenderRequest
from shared.schemas import JobRequest
from shared.telemetry import (
    Metrics,
    configure_logging,
    continue_trace,
    hash_prompt,
    redact_text,
    trace_id,
)

KEY = "pr_4f2a_S3cretS3cret-S3cret_S3cret"
SIGNED = "https://host/outputs/v.mp4?expires=1&signature=deadbeef"
SIGNED_V4 = (
    "https://storage.googleapis.com/b/v.mp4?X-Goog-Algorithm=GOOG4-RSA-SHA256"
    "&X-Goog-Credential=robot%40project&X-Goog-Signature=deadbeef"
)
PROMPT = 'an otter named "Ada" juggling'
SECRETS = ("S3cret", "deadbeef", "robot%40project", "otter", "juggling")

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def stderr(monkeypatch) -> Iterator[io.StringIO]:
    """What the logging configured meanwhile writes to; undone afterwards."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers, root.level
    monkeypatch.setattr(sys, "stderr", stream)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def lines(stderr) -> Callable[[], list[dict]]:
    configure_logging("json", service="api")
    return lambda: [json.loads(line) for line in stderr.getvalue().splitlines()]


@pytest.fixture
def console(stderr) -> Callable[[], str]:
    configure_logging("console", service="api")
    return stderr.getvalue


def fail_with(message: str) -> None:
    raise RuntimeError(message)


# --- one line, one object


def test_a_line_is_one_json_object_with_severity_and_message(lines):
    structlog.get_logger("x").warning("disk almost full", percent=93, volume=None)
    (line,) = lines()
    assert line["severity"] == "WARNING"
    assert line["message"] == "disk almost full"
    assert line["service"] == "api"
    assert (line["percent"], line["volume"]) == (93, None)
    assert line["timestamp"].endswith("Z")
    assert "event" not in line
    assert "level" not in line


def test_cloud_logging_finds_a_lines_trace_where_the_project_is_known(stderr):
    configure_logging("json", service="api", project="demo-project", stream=stderr)
    structlog.get_logger("x").info("job ended", trace=trace_id(PARENT))
    structlog.get_logger("x").info("nobody asked for it", trace=None)
    traced, untraced = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert traced["logging.googleapis.com/trace"] == f"projects/demo-project/traces/{'a' * 32}"
    assert traced["trace"] == "a" * 32
    assert "logging.googleapis.com/trace" not in untraced


def test_a_librarys_line_looks_like_ours(lines):
    logging.getLogger("some.library").error("broken %s", "pipe")
    (line,) = lines()
    assert (line["severity"], line["message"], line["service"]) == ("ERROR", "broken pipe", "api")


@pytest.mark.usefixtures("stderr")
def test_a_line_that_cannot_be_written_is_no_reason_to_fail():
    class FullDisk(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    configure_logging("json", service="api", stream=FullDisk())
    structlog.get_logger("x").error("disk full")


@pytest.mark.usefixtures("stderr")
def test_lines_of_many_threads_do_not_mix(tmp_path):
    with (tmp_path / "log").open("w", buffering=1, encoding="utf-8") as file:
        configure_logging("json", service="api", stream=file)
        log = structlog.get_logger("x")
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: log.info("x" * 3000, number=number), range(400)))
    found = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(line["number"] for line in found) == [*range(400)]


def test_an_exception_stays_inside_its_line(lines):
    try:
        fail_with("no disk")
    except RuntimeError:
        structlog.get_logger("x").exception("failed")
        logging.getLogger("some.library").exception("failed too")
    ours, foreign = lines()
    for line in (ours, foreign):
        assert line["severity"] == "ERROR"
        assert "RuntimeError: no disk" in line["exception"]
        assert "fail_with" in line["exception"]


def test_chatty_libraries_are_heard_from_warnings_up(lines):
    for name in ("httpx", "httpcore", "werkzeug"):
        logging.getLogger(name).info("GET %s", SIGNED)
        logging.getLogger(name).warning("slow")
    assert [line["message"] for line in lines()] == ["slow"] * 3


def test_a_console_shows_lines_and_exceptions_to_people(console):
    try:
        fail_with("no disk")
    except RuntimeError:
        structlog.get_logger("x").exception("failed", job_id="job_1")
    shown = console()
    assert "failed" in shown
    assert "job_1" in shown
    assert "RuntimeError: no disk" in shown


# --- what it never holds


@pytest.mark.parametrize(
    "fields",
    [
        {"header": f"Bearer {KEY}"},
        {"header": f"authorization: bearer {KEY}"},
        {"note": f"key {KEY} was refused"},
        {"url": SIGNED},
        {"url": SIGNED_V4},
        {"prompt": PROMPT},
        {"negative_prompt": PROMPT},
        {"Authorization": "S3cret"},
        {"token": "S3cret"},
        {"request": {"prompt": PROMPT, "n": 1}},
        {"request": [{"headers": {"Authorization": "S3cret"}}, {"token": "S3cret"}]},
        {"requests": [{"prompt": PROMPT}, ({"headers": {"Authorization": f"Bearer {KEY}"}},)]},
        {"error": ValueError(f"cannot open {SIGNED}")},
        {"text": repr({"prompt": PROMPT})},
        {"text": json.dumps({"prompt": PROMPT})},
        {"text": f"RenderRequest(prompt={PROMPT!r}, seed=7)"},
        {"body": json.dumps({"prompt": PROMPT}).encode()},
        {"text": repr(json.dumps({"prompt": PROMPT}))},
        {"text": json.dumps(json.dumps({"prompt": PROMPT}))},
        {"text": json.dumps(json.dumps({"prompt": PROMPT}), indent=2).encode()},
    ],
    ids=repr,
)
def test_no_secret_and_no_prompt_is_in_a_line(lines, fields):
    structlog.get_logger("x").info("something", **fields)
    text = json.dumps(lines())
    assert "something" in text
    assert not [secret for secret in SECRETS if secret in text]


def test_no_secret_is_in_a_librarys_line(lines):
    logging.getLogger("urllib3").warning("retry %s with Bearer %s", SIGNED_V4, KEY)
    text = json.dumps(lines())
    assert "retry" in text
    assert not [secret for secret in SECRETS if secret in text]


def test_no_secret_and_no_prompt_is_in_an_exception_of_ours_or_a_librarys(lines):
    request = {"prompt": PROMPT, "seed": 7}
    for message in (f"GET {SIGNED} with Bearer {KEY}", f"cannot render {request}"):
        try:
            fail_with(message)
        except RuntimeError:
            structlog.get_logger("x").exception("ours")
            logging.getLogger("some.library").exception("theirs")
    text = json.dumps(lines())
    assert text.count("RuntimeError: ") == 4
    assert not [secret for secret in SECRETS if secret in text]


def test_what_pydantic_refuses_is_not_quoted(lines):
    for validate in (
        lambda: JobRequest.model_validate({"prompt": PROMPT, "seed": KEY}),
        lambda: JobRequest.model_validate({"prompt": [PROMPT]}),
        lambda: TypeAdapter(RenderRequest).validate_python({"prompt": PROMPT}),
    ):
        try:
            validate()
        except ValidationError:
            structlog.get_logger("x").exception("refused")
    text = json.dumps(lines())
    assert text.count("ValidationError") >= 3
    assert not [secret for secret in SECRETS if secret in text]


def test_redaction_leaves_the_rest_of_a_text_readable():
    assert redact_text(f"GET {SIGNED} 200") == (
        "GET https://host/outputs/v.mp4?expires=1&signature=[redacted] 200"
    )
    assert redact_text(f"Bearer {KEY}, then more") == "Bearer [redacted] then more"
    assert redact_text("{'prompt': 'a', 'seed': 7}") == "{'prompt': [redacted], 'seed': 7}"
    for plain in ("the bearer", "prompt_hash=abc", "prompt_max_chars: 'x'", "a prompt reply"):
        assert redact_text(plain) == plain


# --- hashes and traces


def test_equal_prompts_look_equal_in_one_installation_only():
    assert hash_prompt(b"key", PROMPT) == hash_prompt(b"key", PROMPT)
    assert hash_prompt(b"key", PROMPT) != hash_prompt(b"other key", PROMPT)
    assert hash_prompt(b"key", PROMPT) != hash_prompt(b"key", PROMPT + ".")
    assert "otter" not in hash_prompt(b"key", PROMPT)


def test_a_callers_trace_is_continued_in_a_span_of_its_own():
    mine = continue_trace(PARENT)
    assert trace_id(mine) == trace_id(PARENT) == "a" * 32
    assert mine != PARENT


@pytest.mark.parametrize("parent", [None, "", "00-zz", PARENT.upper(), PARENT + "-extra"])
def test_without_a_readable_trace_a_new_one_begins(parent):
    assert trace_id(parent) is None
    first, second = continue_trace(parent), continue_trace(parent)
    assert trace_id(first) != trace_id(second)
    assert len(trace_id(first)) == 32


# --- metrics


def test_each_process_may_have_its_own_metrics_twice():
    first, second = Metrics(), Metrics()
    first.jobs_submitted.labels("wan2.1").inc()
    assert b'promptreel_jobs_submitted_total{model="wan2.1"} 1.0' in generate_latest(first.registry)
    assert b"promptreel_jobs_submitted_total{" not in generate_latest(second.registry)


def test_phases_are_observed_by_name():
    metrics = Metrics()
    metrics.observe_phases({"generation": 2.0, "stitch": 0.5}.items())
    seen = generate_latest(metrics.registry).decode()
    assert 'promptreel_phase_seconds_count{phase="generation"} 1.0' in seen
    assert 'promptreel_phase_seconds_sum{phase="stitch"} 0.5' in seen
