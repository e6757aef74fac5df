"""What a person sees who does nothing but ask: the packaged model shows what the prompt says."""

import subprocess

import pytest
import yaml

from tests.journey.installation import PROMPTREEL, log_of, submit, wait_for
from training.captions import prompt
from training.judge import Seen, look_at
from training.split import is_held_out
from training.world import Scene

DEMO = Scene(colour="red", shape="circle", motion="left", background="navy")
OTHERS = (
    Scene(colour="pink", shape="star", motion="right", background="navy"),
    Scene(colour="green", shape="square", motion="up", background="teal"),
    Scene(colour="yellow", shape="circle", motion="still", background="brown"),
)


def _rendered(folder, text, name, **settings):
    """By the command line, with nothing configured but what a test is about."""
    if settings:
        (folder / "promptreel.yaml").write_text(yaml.safe_dump({"render": settings}))
    done = subprocess.run(
        [PROMPTREEL, "render", text, "--out", name],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return folder / name


def _what_was_asked(scene):
    return Seen(scene.colour, scene.background, scene.shape, scene.motion)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What `make demo` leaves, but for its seed."""
    return _rendered(tmp_path_factory.mktemp("demo"), prompt(DEMO), "demo.mp4", seed=1)


def test_the_demo_shows_a_red_circle_that_moves_left_on_navy(demo):
    assert look_at(demo) == _what_was_asked(DEMO)


def test_nothing_is_built_or_downloaded_for_it(demo):
    left = {file.name for file in demo.parent.iterdir()}

    assert left == {"promptreel.yaml", "state", "demo.mp4"}


def test_the_same_seed_gives_the_same_file_and_another_seed_another(demo, tmp_path):
    same = _rendered(tmp_path, prompt(DEMO), "same.mp4", seed=1)
    other = _rendered(tmp_path, prompt(DEMO), "other.mp4", seed=2)

    assert same.read_bytes() == demo.read_bytes()
    assert other.read_bytes() != demo.read_bytes()


@pytest.mark.parametrize("scene", OTHERS, ids=prompt)
def test_what_never_came_together_in_training_is_shown_together(scene, tmp_path):
    assert is_held_out(scene)

    seen = look_at(_rendered(tmp_path, prompt(scene), "clip.mp4", seed=1))

    assert seen == _what_was_asked(scene)
    assert seen != _what_was_asked(DEMO)


def test_a_word_it_does_not_know_is_said_in_the_jobs_log_and_not_shown(tmp_path, installation):
    installation.config["models"] = {}
    installation.config["render"] |= {"model": "wan2.1-shapes", "preset": "fast"}
    with installation.running(), installation.client() as client:
        job_id = submit(client, "a red xylophone circle moving left on a navy background")
        wait_for(client, job_id, "finished")
        log = log_of(client, job_id)

    assert "does not know 1 of the prompt's 10 words: 3" in log
    assert "xylophone" not in log
