"""The worker that is pushed to: who waits for how long, and how it starts and stops."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from shared.config import Config, load_config
from shared.job import JobStatus
from shared.lifecycle import Lifecycle
from shared.wiring import Wiring, wire
from tests.unit.push_under_test import (
    MAIN,
    ROOT,
    SCRIPT,
    Pushed,
    Workers,
    envelope,
    pushed_workers,
    status,
    submit,
    until,
    wire_without_completion,
    write_config,
)

SCRIPTED_WORKER = Path(__file__).with_name("scripted_push_worker.py")
LONGEST_RENDER_SECONDS = 540
MARGIN_SECONDS = 10


@pytest.fixture
def config_file(tmp_path, monkeypatch) -> Path:
    file = write_config(tmp_path)
    monkeypatch.setenv("PROMPTREEL_CONFIG", str(file))
    return file


@pytest.fixture
def config(config_file) -> Config:
    return load_config(config_file)


@pytest.fixture
def wiring(config) -> Iterator[Wiring]:
    with closing(wire(config)) as wired:
        yield wired


@pytest.fixture
def open_worker(config, wiring) -> Iterator[Workers]:
    with pushed_workers(config) as workers:
        yield workers


@pytest.fixture
def worker(open_worker) -> Pushed:
    return open_worker()


# --- the line


def test_one_has_the_device_and_the_others_wait_in_line(wiring, worker):
    first = submit(wiring, "slow")
    others = [submit(wiring, "ok") for _ in range(3)]
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(worker.push, first.id)]
        until(lambda: status(wiring, first) is JobStatus.PROGRESS)
        for job in others:
            answers.append(threads.submit(worker.push, job.id))
            time.sleep(0.2)
        assert {status(wiring, job) for job in others} == {JobStatus.QUEUED}
        wiring.lifecycle.cancel(first.id, owner="ada")
        assert [answer.result(timeout=20) for answer in answers] == [204] * 4
    started = [wiring.store.get(job.id).started_at for job in others]
    assert started == sorted(started)
    assert wiring.store.get(first.id).finished_at <= started[-1]


def test_the_next_in_line_is_begun_while_the_one_before_is_finished(wiring, worker, tmp_path):
    jobs = [submit(wiring, "finish") for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        answers = []
        for job in jobs:
            answers.append(threads.submit(worker.push, job.id))
            until(lambda job=job: status(wiring, job) is JobStatus.PROGRESS)
        for job, answer in zip(jobs, answers, strict=True):
            assert not answer.done()
            (folder,) = tmp_path.glob(f"state/work/*/{job.id}")
            (folder / "go").touch()
            assert answer.result(timeout=20) == 204
            assert status(wiring, job) is JobStatus.FINISHED


def test_who_would_wait_too_long_is_answered_before_a_claim(wiring, open_worker):
    worker = open_worker(push_seconds=LONGEST_RENDER_SECONDS + MARGIN_SECONDS + 0.5)
    slow, late = submit(wiring, "slow"), submit(wiring, "ok")
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(worker.push, slow.id)
        until(lambda: status(wiring, slow) is JobStatus.PROGRESS)
        started = time.monotonic()
        assert worker.push(late.id) == 503
        assert 0.4 < time.monotonic() - started < 3
        wiring.lifecycle.cancel(slow.id, owner="ada")
        assert first.result(timeout=10) == 204
    after = submit(wiring, "ok")
    assert worker.push(after.id) == 204
    job = wiring.store.get(late.id)
    assert (job.status, job.attempt) == (JobStatus.QUEUED, 0)


def test_a_full_line_answers_at_once(wiring, open_worker):
    worker = open_worker(line_length=1)
    jobs = [submit(wiring, prompt) for prompt in ("slow", "ok", "ok")]
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(worker.push, jobs[0].id)]
        until(lambda: status(wiring, jobs[0]) is JobStatus.PROGRESS)
        answers.append(threads.submit(worker.push, jobs[1].id))
        time.sleep(0.3)
        started = time.monotonic()
        assert worker.push(jobs[2].id) == 503
        assert time.monotonic() - started < 1
        wiring.lifecycle.cancel(jobs[0].id, owner="ada")
        assert [answer.result(timeout=20) for answer in answers] == [204, 204]
    assert wiring.store.get(jobs[2].id).attempt == 0


# --- health, presence, stop


def test_health_says_when_a_render_can_start(wiring, worker):
    until(lambda: worker.get("/health").status_code == 200)
    assert worker.get("/health").json == {"model_loaded": True}
    now = wiring.lifecycle.now()
    until(lambda: any(beat.model_loaded for beat in wiring.store.workers(seen_since=now)))


def test_health_says_why_no_render_can_start(config, open_worker):
    render = config.render.model_copy(update={"device": "cuda"})  # the script has none
    worker = open_worker(config.model_copy(update={"render": render}))
    until(lambda: worker.get("/health").json["reason"] == "model_unavailable")
    reply = worker.get("/health")
    assert reply.status_code == 503
    assert reply.json["model_loaded"] is False


def test_without_a_model_nothing_is_claimed(wiring, config, open_worker):
    render = config.render.model_copy(update={"device": "cuda"})
    worker = open_worker(config.model_copy(update={"render": render}))
    job = submit(wiring, "ok")
    assert worker.push(job.id) == 503
    assert wiring.store.get(job.id).attempt == 0


def test_a_worker_that_stops_hands_its_job_back_and_answers_everybody(wiring, open_worker):
    stop = []
    worker = open_worker(stop_requested=lambda: bool(stop))
    deaf, waiting = submit(wiring, "deaf"), submit(wiring, "ok")
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(worker.push, deaf.id)]
        until(lambda: status(wiring, deaf) is JobStatus.PROGRESS)
        answers.append(threads.submit(worker.push, waiting.id))
        time.sleep(0.2)
        stop.append(True)
        # The render itself hears nothing and must be killed: nobody waits for that.
        assert [answer.result(timeout=1.5) for answer in answers] == [503, 503]
    after = [wiring.store.get(job.id) for job in (deaf, waiting)]
    assert [(job.status, job.attempt) for job in after] == [(JobStatus.QUEUED, 0)] * 2


def test_a_stop_does_not_have_the_others_wait_for_a_job_that_is_being_settled(wiring, open_worker):
    stop = []
    worker = open_worker(stop_requested=lambda: bool(stop), open_wiring=wire_without_completion)
    rendered, running, waiting = (submit(wiring, prompt) for prompt in ("ok", "slow", "ok"))
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(worker.push, rendered.id)]
        until(lambda: "finished in" in "".join(wiring.store.tail_log(rendered.id, tail=9)))
        answers.append(threads.submit(worker.push, running.id))
        until(lambda: status(wiring, running) is JobStatus.PROGRESS)
        answers.append(threads.submit(worker.push, waiting.id))
        time.sleep(0.2)
        stop.append(True)
        assert [answer.result(timeout=1.5) for answer in answers[1:]] == [503, 503]
        assert not answers[0].done()
        # Nor does the stop wait as long as a worker that goes on would.
        assert answers[0].result(timeout=10) == 503
    assert wiring.store.get(running.id).attempt == 0
    assert wiring.store.get(waiting.id).attempt == 0


def test_a_stop_lets_a_job_that_is_being_settled_finish(wiring, open_worker):
    stop, completing = [], threading.Event()

    class SlowToComplete(Lifecycle):
        def complete(self, *arguments, **fields):
            completing.set()
            time.sleep(0.7)
            return super().complete(*arguments, **fields)

    def wire_slowly(config: Config) -> Wiring:
        wired = wire(config)
        return replace(wired, lifecycle=SlowToComplete(**vars(wired.lifecycle)))

    worker = open_worker(stop_requested=lambda: bool(stop), open_wiring=wire_slowly)
    job = submit(wiring, "ok")
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(worker.push, job.id)
        assert completing.wait(timeout=20)
        stop.append(True)
        assert answer.result(timeout=10) == 204
    assert status(wiring, job) is JobStatus.FINISHED


def test_a_stop_gives_back_a_job_that_is_being_claimed(wiring, open_worker):
    stop, claiming = [], threading.Event()

    class SlowToClaim(Lifecycle):
        def claim(self, *arguments, **fields):
            claimed = super().claim(*arguments, **fields)
            claiming.set()
            time.sleep(0.7)
            return claimed

    def wire_slowly(config: Config) -> Wiring:
        wired = wire(config)
        return replace(wired, lifecycle=SlowToClaim(**vars(wired.lifecycle)))

    worker = open_worker(stop_requested=lambda: bool(stop), open_wiring=wire_slowly)
    job = submit(wiring, "ok")
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(worker.push, job.id)
        assert claiming.wait(timeout=20)
        stop.append(True)
        assert answer.result(timeout=10) == 503
    after = wiring.store.get(job.id)
    assert (after.status, after.attempt, after.lease) == (JobStatus.QUEUED, 0, None)


# --- the process


@pytest.fixture
def served(config_file, tmp_path) -> Iterator[tuple[subprocess.Popen, str]]:
    """functions-framework as Cloud Run starts it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("functions-framework")),
        *("--source", str(SCRIPTED_WORKER), "--target", "render"),
        *("--signature-type", "http", "--host", "127.0.0.1", "--port", str(port)),
    ]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
    )
    yield process, f"http://127.0.0.1:{port}"
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()
    process.wait()
    log.close()


def healthy(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health", timeout=5).is_success
    return False


def render_processes(server: subprocess.Popen) -> list[psutil.Process]:
    children = psutil.Process(server.pid).children(recursive=True)
    return [child for child in children if SCRIPT.name in " ".join(child.cmdline())]


def test_a_server_told_to_stop_has_handed_its_job_back_in_time(wiring, served):
    process, url = served
    until(lambda: healthy(url), seconds=30)
    done, slow = submit(wiring, "ok"), submit(wiring, "slow")
    assert httpx.post(url, json=envelope(done.id), timeout=30).status_code == 204
    assert status(wiring, done) is JobStatus.FINISHED
    (renderer,) = render_processes(process)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(httpx.post, url, json=envelope(slow.id), timeout=30)
        until(lambda: status(wiring, slow) is JobStatus.PROGRESS)
        process.send_signal(signal.SIGTERM)
        assert answer.result(timeout=5).status_code == 503
    process.wait(timeout=10)
    job = wiring.store.get(slow.id)
    assert (job.status, job.attempt) == (JobStatus.QUEUED, 0)
    until(lambda: not renderer.is_running())


def test_a_configuration_that_cannot_be_used_ends_the_server_and_says_why(config_file):
    config_file.write_text("profil: gcp\n")
    command = ["--source", str(MAIN), "--target", "render"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("functions-framework")), *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "profil" in done.stderr
    assert "Traceback" not in done.stderr
