"""What `promptreel up` tells people to type reaches the server that it has started."""

import pytest

from services.cli import greeting
from services.cli.profiles import Profile, Profiles, profile_file

SUBMIT = 'promptreel submit "a red circle moving left" --out circle.mp4'


def submit_command(config_file, *, port=8000):
    return greeting.submit_command(config_file, port=port, program=".venv/bin/promptreel")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where `promptreel up` was typed; nothing is said anywhere else."""
    for name in ("PROMPTREEL_URL", "PROMPTREEL_API_KEY", "PROMPTREEL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "promptreel").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "promptreel.yaml").write_text("{}\n")
    return tmp_path / "here"


def test_in_the_folder_of_the_installation_it_is_short(folder):
    assert submit_command(folder / "promptreel.yaml") == SUBMIT


def test_where_the_shell_would_not_find_it_it_is_called_as_this_one_was(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    told = submit_command(folder / "promptreel.yaml")
    assert told == SUBMIT.replace("promptreel", ".venv/bin/promptreel")


def test_a_configuration_that_no_command_would_find_is_named(folder):
    other = folder / "other one.yaml"
    told = submit_command(other)
    assert told == f"PROMPTREEL_CONFIG='{other}' {SUBMIT}"


def test_whoever_usually_talks_to_another_server_is_told_to_talk_to_this_one(folder, monkeypatch):
    there = Profile(url="https://video.example.com", key="pr_there")
    profile_file().write(Profiles(current="there", servers={"there": there}))
    assert submit_command(folder / "promptreel.yaml") == f"{SUBMIT} --server local"
    profile_file().write(Profiles())
    monkeypatch.setenv("PROMPTREEL_URL", "https://video.example.com")
    monkeypatch.setenv("PROMPTREEL_API_KEY", "pr_there")
    assert submit_command(folder / "promptreel.yaml") == f"{SUBMIT} --server local"


def test_a_server_that_no_command_could_find_is_left_to_those_who_know_its_address(folder):
    assert submit_command(folder / "promptreel.yaml", port=0) is None
