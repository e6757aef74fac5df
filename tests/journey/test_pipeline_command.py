"""`promptreel pipeline`: a long video without a server, in a folder that tells how it was made."""

import json
import os
import signal
import subprocess
import time

import psutil
import pytest

from shared.config import load_config
from tests.journey.installation import PROMPTREEL, tied

PROMPT = "A red circle. It moves to the left."
USAGE, INTERRUPTED = 2, 130


@pytest.fixture
def long_videos(installation_with_vertex):
    installation_with_vertex.config["segments"] = 2
    installation_with_vertex.write_config()
    return installation_with_vertex


def command(installation, *options):
    out = installation.folder / "out"
    fixed = ["--config", installation.config_file, "--out", out]
    return tied([PROMPTREEL, "pipeline", *fixed, *options])


def run(installation, *options):
    return subprocess.run(
        command(installation, *options),
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        timeout=200,
        check=False,
    )


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_long_video_leaves_a_folder_of_everything_it_is_made_of(long_videos):
    done = run(long_videos, "--prompt", PROMPT, "--mode", "chaining")

    assert done.returncode == 0, done.stderr
    out = long_videos.folder / "out"
    assert files_in(out) == [
        "final_video.mp4",
        "plan.json",
        "poster.jpg",
        "promptreel.yaml",
        "seams.png",
        "segments/1.mp4",
        "segments/1_last.png",
        "segments/2.mp4",
        "spritesheet.jpg",
    ]
    for phase in ("plan", "keyframes", "generation", "stitch"):
        assert phase in done.stderr
    assert "segment 2/2: step 8/8" in done.stderr
    used = load_config(out / "promptreel.yaml")
    assert (used.prompt, used.generation_mode, used.segments) == (PROMPT, "chaining", 2)
    shots = json.loads((out / "plan.json").read_text())["shots"]
    assert [shot["seed"] - used.render.seed for shot in shots] == [0, 1]
    # The file that was given is as it was.
    given = load_config(long_videos.config_file)
    assert (given.prompt, given.generation_mode, given.render.seed) == (None, "single", None)


def test_a_run_that_was_stopped_leaves_no_process_and_goes_on_where_it_was(long_videos):
    how = ("--prompt", PROMPT, "--mode", "chaining")
    out = long_videos.folder / "out"
    with (long_videos.folder / "log").open("wb") as log:
        process = subprocess.Popen(command(long_videos, *how), stdout=log, stderr=log)
    wait_until((out / "segments" / "1.mp4").exists)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == INTERRUPTED
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert "final_video.mp4" not in files_in(out)
    assert not [name for name in files_in(out) if name.endswith(".partial")]

    again = run(long_videos, *how)

    assert again.returncode == 0, again.stderr
    assert "segment 1/2: already there, not made again" in again.stderr
    assert "final_video.mp4" in files_in(out)


def test_a_folder_with_another_video_is_left_as_it_is(long_videos):
    out = long_videos.folder / "out"
    out.mkdir()
    (out / "holiday.mp4").write_bytes(b"ours")

    done = run(long_videos, "--prompt", PROMPT)

    assert done.returncode == USAGE
    assert "name an empty folder as --out" in done.stderr
    assert files_in(out) == ["holiday.mp4"]


def test_the_backend_is_switched_and_falls_back_as_for_a_worker(long_videos, vertex):
    long_videos.config |= {"default_backend": "veo3", "fallback_backend": "wan2.1"}
    long_videos.write_config()
    vertex.script.fail("predictLongRunning", 503, count=10)

    done = run(long_videos, "--prompt", PROMPT)

    assert done.returncode == 0, done.stderr
    assert "wan2.1-demo takes over" in done.stderr
    assert "step 8/8" in done.stderr
    assert "segments/1_clip.mp4" not in files_in(long_videos.folder / "out")


def test_without_any_prompt_it_says_what_to_do(long_videos):
    done = run(long_videos)
    assert done.returncode == USAGE
    assert "Give a prompt" in done.stderr


def wait_until(condition, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
