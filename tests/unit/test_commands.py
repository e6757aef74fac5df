"""The commands that talk to a server, against the real API and servers that do what a script says."""

import json
import subprocess
import sys
import threading

import pytest

from services.cli.job_ids import completions
from services.emulators.serving import serving
from shared.errors import PromptRefused
from tests.unit.api_under_test import PROMPT, VIDEO, running_api
from tests.unit.client_under_test import Reply, a_job, no_such, refusal, scripted, sent, stream
from tests.unit.commands_under_test import commands_in, objects
from tests.unit.test_client_download import Cutting

SECRET = "pr_0badcafe_" + "s" * 43


@pytest.fixture
def promptreel(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with commands_in(tmp_path) as commands:
        yield commands


@pytest.fixture
def api(tmp_path, promptreel):
    with running_api(tmp_path) as api, serving(Cutting(api.app, [])) as url:
        promptreel.talk_to(url, api.key)
        api.url = url
        yield api


def test_submit_prints_the_id(api, promptreel):
    job_id = promptreel("submit", PROMPT).stdout.strip()
    assert api.client.get(f"/v1/jobs/{job_id}").json["status"] == "queued"
    [said] = objects(promptreel("submit", PROMPT, "--json"))
    assert said["status"] == "queued"


def test_a_prompt_may_come_from_stdin_and_with_a_key_that_makes_it_one_job(api, promptreel):
    one = promptreel("submit", "-", "--idempotency-key", "mine", said=f"{PROMPT}\n")
    assert promptreel("submit", PROMPT, "--idempotency-key", "mine").stdout == one.stdout
    assert api.jobs == 1


def test_a_refused_prompt_is_one_line_that_says_what_to_do(api, promptreel):
    done = promptreel("submit", "   ", code=4)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "prompt is empty" in done.stderr


def test_an_idempotency_key_that_cannot_be_sent_is_wrong_usage(api, promptreel):
    assert "printable" in promptreel("submit", PROMPT, "--idempotency-key", "ü", code=2).stderr


def test_list_has_a_line_a_job_the_newest_first(api, promptreel):
    older, newer = api.submit(), api.submit()
    api.worker.render_next()
    lines = promptreel("list").stdout.splitlines()
    assert lines[0].startswith("ID")
    assert {line.split()[0] for line in lines[1:]} == {older, newer}
    assert len(objects(promptreel("list", "--json", "--limit", 1))) == 1
    assert len(objects(promptreel("list", "--json", "--all"))) == 2
    [finished] = objects(promptreel("list", "--json", "--status", "finished"))
    assert finished["progress"] == 100


def test_no_jobs_are_no_error(api, promptreel):
    done = promptreel("list")
    assert done.stdout == ""
    assert "No jobs" in done.stderr


def test_a_job_may_be_named_by_its_first_letters_or_as_the_last(api, promptreel):
    job_id = api.submit()
    for named in (job_id, job_id[:-1], job_id.removeprefix("job_")[:12], "last"):
        assert objects(promptreel("cancel", named, "--json"))[0]["id"] == job_id


def test_letters_that_several_jobs_begin_with_name_none(api, promptreel):
    api.submit()
    api.submit()
    assert "2 jobs" in promptreel("cancel", "job_", code=2).stderr
    assert "begins with job_x" in promptreel("cancel", "job_x", code=4).stderr


def test_there_may_be_no_last_job(api, promptreel):
    assert "no job yet" in promptreel("watch", "last", code=4).stderr


def test_the_last_job_is_the_newest(api, promptreel):
    api.submit()
    api.clock.advance(10)
    newest = api.submit()
    assert newest in promptreel("cancel", "last").stdout


def test_an_older_server_that_cannot_list_wants_whole_ids(promptreel):
    with scripted({"/v1/jobs": [refusal(405, "method_not_allowed")]}) as server:
        promptreel.talk_to(server.url, SECRET)
        assert "whole id" in promptreel("watch", "last", code=4).stderr


def test_watching_a_finished_job_says_so(api, promptreel):
    job_id = api.finished()
    assert "100%  finished" in promptreel("watch", job_id).stderr
    last = objects(promptreel("watch", job_id, "--json"))[-1]
    assert (last["event"], last["job"]["status"]) == ("end", "finished")


def test_watching_shows_place_progress_and_log(promptreel):
    queued = a_job("queued", 0, queue_position=3, estimated_seconds_left=125)
    events = stream(
        sent("job", queued, 0),
        sent("log", {"line": "2026-11-21T05:04:24Z step 1/2"}, 1),
        sent("job", a_job("progress", 42), 1),
        sent("end", a_job("finished", 100), 1),
    )
    with scripted({"/v1/jobs/job_" + "0" * 32 + "/events": [events]}) as server:
        promptreel.talk_to(server.url, SECRET)
        done = promptreel("watch", "job_" + "0" * 32, "--logs")
        assert "queued, number 3  2:05 left" in done.stderr
        assert "42%  step 1/2" in done.stderr
        assert "2026-11-21T05:04:24Z step 1/2" in done.stderr
        assert done.stdout == ""
        told = objects(promptreel("watch", "job_" + "0" * 32, "--logs", "--json"))
    assert [it["event"] for it in told] == ["job", "log", "job", "end"]


def test_a_job_that_fails_is_exit_code_1_with_its_reason(api, promptreel):
    job_id = api.submit()
    api.worker.fail_next(PromptRefused("The model refused the prompt."))
    done = promptreel("watch", job_id, code=1)
    assert "No video: The model refused the prompt." in done.stderr


def test_a_canceled_job_has_no_video(api, promptreel):
    assert "cannot change" in promptreel("cancel", api.finished(), code=4).stderr
    job_id = api.submit()
    promptreel("cancel", job_id)
    assert "canceled" in promptreel("watch", job_id, code=1).stderr


def test_fetch_saves_the_file_under_the_id_or_where_it_is_told(api, promptreel, tmp_path):
    job_id = api.finished()
    done = promptreel("fetch", job_id)
    assert (tmp_path / "here" / f"{job_id}.mp4").read_bytes() == VIDEO
    assert f"saved {job_id}.mp4" in done.stderr
    promptreel("fetch", job_id, "--kind", "poster", "--out", tmp_path)
    assert (tmp_path / f"{job_id}-poster.jpg").exists()
    [said] = objects(promptreel("fetch", "last", "--out", tmp_path / "a.mp4", "--json"))
    assert said["bytes"] == len(VIDEO)


def test_no_file_yet_is_refused_and_leaves_none(api, promptreel, tmp_path):
    done = promptreel("fetch", api.submit(), "--out", "a.mp4", code=4)
    assert "Poll the job" in done.stderr
    assert list((tmp_path / "here").iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(api, promptreel):
    job_id = api.finished()
    assert "cannot be written" in promptreel("fetch", job_id, "-o", "/proc/a.mp4", code=2).stderr


def test_logs_are_printed_and_followed_once(promptreel):
    job = "/v1/jobs/job_" + "0" * 32
    lines = [f"2026-11-21T05:04:2{n}Z {n}" for n in range(4)]
    events = stream(
        *(sent("log", {"line": line}, n + 1) for n, line in enumerate(lines)),
        sent("end", a_job("finished", 100), 4),
    )
    logs = [Reply({"lines": lines[1:3]})]
    with scripted({f"{job}/logs": logs, f"{job}/events": [events]}) as server:
        promptreel.talk_to(server.url, SECRET)
        job_id = job.rpartition("/")[2]
        assert promptreel("logs", job_id).stdout.splitlines() == lines[1:3]
        assert promptreel("logs", job_id, "-f").stdout.splitlines() == lines
        assert promptreel("logs", job_id, "-f", "--tail", 2).stdout.splitlines() == lines[1:]
        [first, *_] = objects(promptreel("logs", job_id, "--json"))
    assert first == {"line": lines[1]}


def test_usage_is_what_is_left_of_the_month(api, promptreel):
    assert "pictures used in" in promptreel("usage").stdout
    [said] = objects(promptreel("usage", "--json"))
    assert said["remaining"] == said["limit"] - said["used"]


def test_a_wrong_key_is_refused_and_not_repeated_to_anybody(api, promptreel):
    promptreel.talk_to(api.url, SECRET)
    done = promptreel("list", code=4)
    assert "does not know this key" in done.stderr
    assert SECRET not in done.output


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (refusal(429, "rate_exceeded", Retry_After="999"), 5),
        (refusal(503, "store_unavailable", Retry_After="999"), 3),
        (refusal(409, "conflict"), 4),
        (Reply(b"<html>"), 4),
    ],
)
def test_every_answer_has_its_exit_code(promptreel, answer, code):
    with scripted({"/v1/jobs": [answer]}) as server:
        promptreel.talk_to(server.url, SECRET)
        done = promptreel("submit", PROMPT, "--json", code=code)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_completion_offers_jobs_and_never_complains(api, promptreel, monkeypatch):
    job_id = api.submit()
    for name, value in promptreel.environment.items():
        monkeypatch.setenv(name, value)
    assert [each for each, _ in completions(None, "")] == ["last", job_id]
    assert completions(None, "job_x") == []
    monkeypatch.setenv("PROMPTREEL_API_KEY", SECRET)
    assert completions(None, "") == []


def test_completion_waits_for_nobody(monkeypatch):
    given_up = threading.Event()

    def slow(_environ, start_response):
        """Never silent for long, and late all the same."""
        start_response("200 OK", [("Content-Type", "application/json")])
        for _ in range(100):
            if given_up.wait(0.1):
                return
            yield b" "
        yield json.dumps({"data": [a_job()], "has_more": False, "last_id": None}).encode()

    with serving(slow) as url:
        monkeypatch.setenv("PROMPTREEL_URL", url)
        monkeypatch.setenv("PROMPTREEL_API_KEY", SECRET)
        assert completions(None, "") == []
        given_up.set()


def test_a_prompt_that_is_no_text_is_told(api, promptreel):
    assert "half a character" in promptreel("submit", "a \udcff", code=2).stderr
    assert "UTF-8" in promptreel("submit", "-", said=b"\xff", code=2).stderr


def test_help_and_completion_need_little():
    """What takes long to import is imported by the commands that need it."""
    slow = "{'httpx', 'pydantic', 'yaml', 'shared.config', 'rich.progress'}"
    code = f"import services.cli.app, sys; print(*{slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_help_tells_the_exit_codes(promptreel):
    text = " ".join(promptreel("--help").stdout.split())
    for words in ("3 the server cannot be reached", "130 interrupted", "--install-completion"):
        assert words in text
    assert no_such().status == 404
