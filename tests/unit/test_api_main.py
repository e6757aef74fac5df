"""The API as a process of its own: how it starts, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import httpx
import psutil
import pytest
import yaml

from services.api.auth import create_key
from tests.unit.api_under_test import PROMPT

MODULE = [sys.executable, "-m", "services.api.main"]


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def config_file(tmp_path, port):
    file = tmp_path / "promptreel.yaml"
    file.write_text(yaml.safe_dump({"data_dir": "state", "server": {"port": port}}))
    return file


@pytest.fixture
def key(config_file):
    return create_key(config_file.parent / "state" / "keys.json", "ada", datetime.now(UTC))


@contextmanager
def serving(config_file, command):
    """A process that serves, and at the end no process of it."""
    environment = {**os.environ, "PROMPTREEL_CONFIG": str(config_file)}
    with (config_file.parent / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def run_to_its_end(config_file, *arguments):
    environment = {**os.environ, "PROMPTREEL_CONFIG": str(config_file)}
    return subprocess.run(
        [*MODULE, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def answers(port):
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=1).is_success
    return False


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_told_to_stop_it_lets_waiting_callers_go_and_ends(config_file, key, port):
    with serving(config_file, MODULE) as process:
        wait_until(lambda: answers(port))
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(headers=headers, timeout=30) as client:
            request = client.build_request(
                "POST", f"http://127.0.0.1:{port}/generate", json={"prompt": PROMPT}
            )
            stop = subprocess.Popen(["sh", "-c", f"sleep 1; kill -TERM {process.pid}"])
            reply = client.send(request)
        stop.wait()
        assert reply.status_code == 202
        assert process.wait(10) == 0


def test_killed_it_leaves_nothing_listening(config_file, key, port):
    with serving(config_file, MODULE) as process:
        wait_until(lambda: answers(port))
        process.kill()
        wait_until(lambda: not answers(port), seconds=5)


def test_its_serving_process_is_replaced_when_it_dies(config_file, key, port):
    with serving(config_file, MODULE) as process:
        wait_until(lambda: answers(port))
        (worker,) = psutil.Process(process.pid).children()
        worker.kill()
        wait_until(lambda: psutil.Process(process.pid).children() not in ([], [worker]))
        wait_until(lambda: answers(port))


def test_it_ends_with_the_process_that_started_it_if_told_to(config_file, key, port):
    starter = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'services.api.main', '--exit-with-parent'])\n"
        "time.sleep(60)\n"
    )
    with serving(config_file, [sys.executable, "-c", starter]) as process:
        wait_until(lambda: answers(port))
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive


def test_granian_can_start_it_from_its_factory(config_file, key, port):
    granian = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory"]
    command = [*granian, "services.api.main:create_app", "--port", str(port)]
    with serving(config_file, command) as process:
        wait_until(lambda: answers(port))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_its_log_is_one_json_object_a_line(config_file, key, port):
    with serving(config_file, MODULE) as process:
        wait_until(lambda: answers(port))
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    lines = [json.loads(line) for line in (config_file.parent / "log").read_text().splitlines()]
    assert {line["service"] for line in lines} == {"api"}
    assert lines[0]["url"] == f"http://127.0.0.1:{port}"
    assert any(line.get("route") == "/healthz" for line in lines)


def test_any_free_port_can_be_asked_for(config_file, key):
    with serving(config_file, [*MODULE, "--port", "0"]):
        log = config_file.parent / "log"
        wait_until(lambda: log.read_text().count("\n"))
        url = json.loads(log.read_text().splitlines()[0])["url"]
        wait_until(lambda: answers(int(url.rpartition(":")[2])))


def test_a_taken_port_is_one_line_that_says_what_to_do(config_file, key, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        ended = run_to_its_end(config_file)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"127.0.0.1 port {port}" in line
    assert "choose another" in line


def test_without_a_key_it_says_how_to_make_one(config_file):
    ended = run_to_its_end(config_file)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "promptreel up" in line


def test_a_wrong_configuration_is_one_line_that_names_the_key(config_file, key):
    config_file.write_text("server: {ports: 1}")
    ended = run_to_its_end(config_file)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "server.ports" in line
