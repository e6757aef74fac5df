import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import av
import httpx
import psutil
import pytest

from tests.journey.installation import PROMPTREEL, wait_for


def promptreel(*arguments, cwd, seconds=120):
    return subprocess.run(
        [PROMPTREEL, *arguments],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def test_render_starts_what_is_not_running_and_saves_a_video(installation):
    installation.config["render"] = {}
    installation.write_config()
    before = {process.pid for process in psutil.process_iter()}
    done = promptreel(
        "render", 'a "quoted" red circle', "--out", "out/demo.mp4", cwd=installation.folder
    )
    assert done.returncode == 0, done.stderr
    assert "saved out/demo.mp4" in done.stderr
    video = installation.folder / "out" / "demo.mp4"
    with av.open(video) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (832, 480)
        assert stream.average_rate == 16
        assert sum(1 for _ in container.decode(stream)) == 81
    data = video.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    left = [
        process.cmdline()
        for process in psutil.process_iter()
        if process.pid not in before and "services" in " ".join(process.cmdline())
    ]
    assert not left


def test_render_shows_phases_steps_and_time_left(installation):
    installation.write_config()
    command = [PROMPTREEL, "render", "a red circle", "--out", "clip.mp4"]
    screen = watched_on_a_terminal(command, installation.folder)
    assert "loading the model" in screen
    assert re.search(r"step \d+/\d+", screen)
    assert re.search(r"\d+%", screen)
    assert "left" in screen
    assert "saved clip.mp4" in screen


def test_render_uses_the_server_that_runs(installation):
    with installation.running(), installation.client() as client:
        done = promptreel("render", "a red circle", "--out", "clip.mp4", cwd=installation.folder)
        assert done.returncode == 0, done.stderr
        assert not (installation.folder / "state" / "render.log").exists()
        assert 'promptreel_jobs{status="finished"} 1.0' in client.get("/metrics").text


def test_an_interrupted_render_cancels_its_job(installation):
    installation.config["render"] = {"duration_seconds": 5}
    with installation.running(), installation.client() as client:
        command = [PROMPTREEL, "render", "a red circle"]
        render = subprocess.Popen(command, cwd=installation.folder, stderr=subprocess.PIPE)
        job_id = newest_job(installation)
        wait_for(client, job_id, "progress")
        render.send_signal(signal.SIGINT)
        assert render.wait(10) == 130
        render.stderr.close()
        wait_for(client, job_id, "canceled", seconds=5)
    assert not list(installation.folder.glob("*.mp4"))


def test_a_refused_prompt_is_told_plainly(installation):
    with installation.running():
        done = promptreel("render", "   ", cwd=installation.folder)
    assert done.returncode == 4
    assert "prompt is empty" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["up"], ["render", "a cat"]])
def test_a_broken_configuration_stops_the_start_with_file_key_and_reason(tmp_path, command):
    (tmp_path / "promptreel.yaml").write_text("render: {duration_seconds: 99}\ncolour: red\n")
    done = promptreel(*command, cwd=tmp_path)
    assert done.returncode == 2
    for word in ("promptreel.yaml", "colour"):
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["promptreel.yaml"]


def test_a_missing_model_says_how_to_get_it(tmp_path):
    (tmp_path / "promptreel.yaml").write_text("render: {model: wan2.1}\n")
    done = promptreel("up", cwd=tmp_path)
    assert done.returncode == 2
    assert "Wan-AI/Wan2.1-T2V-1.3B-Diffusers" in done.stderr


def test_a_taken_port_is_told_plainly(promptreel, tmp_path):
    port = promptreel.config["server"]["port"]
    model = promptreel.config["models"]["wan2.1-demo"]["dir"]
    config = f"server: {{port: {port}}}\nrender: {{model: wan2.1-demo}}\n"
    config += f"models: {{wan2.1-demo: {{dir: {model}}}}}\n"
    (tmp_path / "promptreel.yaml").write_text(config)
    done = subprocess.run(
        [PROMPTREEL, "up"], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert f"port {port}" in done.stderr


def pasted(line, folder):
    """What came of a line that a person copied."""
    path = f"{PROMPTREEL.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(  # noqa: S602 - as a person would paste it
        line, shell=True, check=False, capture_output=True, text=True, cwd=folder, env=environment
    )


def test_up_prints_two_lines_that_work_its_own_first(installation, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with installation.running(), installation.client() as client:
        lines = [line for line in installation.log.splitlines() if line.startswith("  ")]
        submit, curl = (line.strip() for line in lines)
        # By its path, where the shell would not find it by its name.
        assert re.match(r"(\S*/)?promptreel submit ", submit)
        done = pasted(submit, installation.folder)
        assert done.returncode == 0, done.stderr
        assert (installation.folder / "circle.mp4").stat().st_size > 1000
        reply = pasted(curl, elsewhere)
        job_id = re.search(r'"id": ?"(job_[0-9a-f]+)"', reply.stdout).group(1)
        client.post(f"/v1/jobs/{job_id}/cancel")


def test_up_takes_any_free_port_when_told_so_and_says_which(installation):
    installation.config["server"] = {"port": 0}
    installation.write_config()
    up = subprocess.Popen([PROMPTREEL, "up"], cwd=installation.folder, stderr=subprocess.PIPE)
    try:
        said = next(line for line in up.stderr if b"is up at" in line).decode()
        url = re.search(r"http://[0-9.]+:\d+", said).group()
        assert httpx.get(f"{url}/healthz").status_code == 200
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=20)


def test_version_is_the_packages():
    done = promptreel("version", cwd=Path.cwd())
    assert re.fullmatch(r"promptreel \d+\.\d+\.\d+\n", done.stdout)


def newest_job(installation):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = re.findall(r"job_[0-9a-f]{32}", installation.log)
        if found:
            return found[-1]
        time.sleep(0.1)
    raise AssertionError("no job was submitted")


def watched_on_a_terminal(command, cwd):
    """What a person saw, as text."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=cwd, stderr=theirs, stdout=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # the other end has closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    assert process.wait(60) == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
