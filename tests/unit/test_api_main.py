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

from services.api.keys.sources import KeyFile, create_key
from services.emulators.gcs_accounts import ServiceAccounts
from tests.server_sent_events import events_of
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
    return create_key(KeyFile(config_file.parent / "state" / "keys.json"), "ada", datetime.now(UTC))


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


def calling(port, key):
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)


def wait_until(condition, seconds=60):
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


def test_told_to_stop_it_lets_go_whoever_follows_a_job_and_ends(config_file, key, port):
    with serving(config_file, MODULE) as process:
        wait_until(lambda: answers(port))
        with calling(port, key) as client:
            job_id = client.post("/v1/jobs", json={"prompt": PROMPT}).json()["id"]
            with client.stream("GET", f"/v1/jobs/{job_id}/events") as reply:
                events = events_of(reply.iter_raw())
                assert next(events).name == "job"
                process.send_signal(signal.SIGTERM)
                assert list(events) == []
        assert process.wait(10) == 0


def test_who_has_gone_away_gives_the_seat_back(config_file, key, port):
    # With one seat, and one thread for everybody else.
    server = {"port": port, "threads": 2}
    config_file.write_text(yaml.safe_dump({"data_dir": "state", "server": server}))
    with serving(config_file, MODULE), calling(port, key) as client:
        wait_until(lambda: answers(port))
        job_id, other = (
            client.post("/v1/jobs", json={"prompt": PROMPT}).json()["id"] for _ in range(2)
        )

        def status_of_another() -> int:
            with client.stream("GET", f"/v1/jobs/{other}/events") as reply:
                return reply.status_code

        with client.stream("GET", f"/v1/jobs/{job_id}/events") as reply:
            assert next(events_of(reply.iter_raw())).name == "job"
            assert status_of_another() == 503
        # It is noticed when something is sent, at the latest by the next comment.
        client.post(f"/v1/jobs/{job_id}/cancel")
        wait_until(lambda: status_of_another() == 200)


def test_killed_it_leaves_nothing_listening(config_file, key, port):
    with serving(config_file, MODULE) as process:
        wait_until(lambda: answers(port))
        process.kill()
        wait_until(lambda: not answers(port))


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


def test_as_cloud_run_starts_it_everybody_reaches_it_at_the_port_it_is_given(
    config_file, key, port
):
    config_file.write_text(yaml.safe_dump({"data_dir": "state", "server": {"port": 1}}))
    here = ["env", f"PORT={port}", *MODULE]
    with serving(config_file, here):
        wait_until(lambda: answers(port))
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.2:{port}/healthz")
    with serving(config_file, [*here, "--host", "0.0.0.0"]):  # noqa: S104 - what is tested
        wait_until(lambda: answers(port))
        assert httpx.get(f"http://127.0.0.2:{port}/healthz").is_success


def test_a_port_on_the_command_line_is_nearer_than_that_of_the_environment(config_file, key, port):
    with serving(config_file, ["env", "PORT=1", *MODULE, "--port", str(port)]):
        wait_until(lambda: answers(port))


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
    assert "promptreel keys create" in line


def test_a_wrong_configuration_is_one_line_that_names_the_key(config_file, key):
    config_file.write_text("server: {ports: 1}")
    ended = run_to_its_end(config_file)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "server.ports" in line


def test_what_cannot_be_opened_is_said_once(config_file, key):
    secret = config_file.parent / "state" / "signing.key"
    secret.write_bytes(b"short")
    secret.chmod(0o600)
    ended = run_to_its_end(config_file)
    assert ended.returncode == 2
    started, line = ended.stderr.splitlines()
    assert json.loads(started)["message"] == "starting"
    assert "signing.key" in line


def test_the_process_that_forks_makes_no_client_of_googles(config_file, key, port, monkeypatch):
    # One that is made before a fork may hang after it: here, one start of forty did.
    nobody = "127.0.0.1:1"
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", nobody)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", nobody)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{nobody}")
    account = config_file.parent / "account.json"
    ServiceAccounts().write_key_file(
        "api@demo-project.iam.gserviceaccount.com",
        account,
        project="demo-project",
        token_uri=f"http://{nobody}",
    )
    gcp = {"project": "demo-project", "credentials_file": str(account), "signing": "key_file"}
    settings = {"profile": "gcp", "data_dir": "state", "server": {"port": port}, "gcp": gcp}
    config_file.write_text(yaml.safe_dump(settings))
    with serving(config_file, MODULE) as process:
        wait_until(lambda: answers(port))
        main = psutil.Process(process.pid)
        (server,) = main.children()
        assert speaks_grpc(server)
        assert not speaks_grpc(main)


def speaks_grpc(process: psutil.Process) -> bool:
    return any("cygrpc" in mapped.path for mapped in process.memory_maps())
