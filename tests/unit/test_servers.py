"""Which server a command talks to, and where its key is kept."""

import stat

import pytest

from services.cli.client_key import client_key
from services.emulators.serving import serving
from shared.config import load_config
from tests.unit.api_under_test import running_api
from tests.unit.commands_under_test import commands_in, objects

SECRET = "pr_0badcafe_" + "s" * 43


@pytest.fixture
def promptreel(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with commands_in(tmp_path) as commands:
        yield commands


@pytest.fixture
def api(tmp_path):
    (tmp_path / "there").mkdir()
    with running_api(tmp_path / "there") as api, serving(api.app) as url:
        api.url = url
        yield api


def test_a_server_is_added_used_and_removed(promptreel):
    assert "home is in use" in promptreel("servers", "add", "home", "http://h", said=SECRET).stdout
    promptreel("servers", "add", "work", "https://w.example/reel", said=SECRET)
    listed = objects(promptreel("servers", "list", "--json"))
    assert [(it["name"], it["in_use"]) for it in listed] == [
        ("local", False),
        ("home", True),
        ("work", False),
    ]
    promptreel("servers", "use", "work")
    assert "* work" in promptreel("servers", "list").stdout
    assert "local is in use" in promptreel("servers", "remove", "work").stdout
    assert "w.example" not in promptreel("servers", "list").stdout


def test_the_file_is_its_owners_only_and_no_key_is_shown(promptreel):
    promptreel("servers", "add", "home", "http://h", said=SECRET)
    assert stat.S_IMODE(promptreel.servers_file.stat().st_mode) == 0o600
    assert SECRET in promptreel.servers_file.read_text()
    assert SECRET not in promptreel("servers", "list", "--json").output


def test_a_file_that_others_can_read_is_not_used(promptreel):
    promptreel("servers", "add", "home", "http://h", said=SECRET)
    promptreel.servers_file.chmod(0o644)
    assert "chmod 600" in promptreel("servers", "list", code=2).stderr


def test_a_broken_file_is_told_without_its_content(promptreel):
    promptreel("servers", "add", "home", "http://h", said=SECRET)
    for content in (f"servers: {{home: {SECRET}}}", "{"):
        promptreel.servers_file.write_text(content)
        done = promptreel("list", code=2)
        assert "servers.yaml" in done.stderr
        assert SECRET not in done.output


def test_a_folder_that_cannot_be_written_is_told(promptreel):
    promptreel.config_home.write_text("a file")
    assert "cannot be" in promptreel("servers", "add", "a", "http://h", said=SECRET, code=2).stderr


def test_a_key_may_be_in_a_file_and_must_be_one_word(promptreel, tmp_path):
    (tmp_path / "key").write_text(SECRET + "\n")
    promptreel("servers", "add", "home", "http://h", "--key-file", tmp_path / "key")
    assert SECRET in promptreel.servers_file.read_text()
    promptreel("servers", "add", "home", "http://h", "--key-file", tmp_path / "none", code=2)
    promptreel("servers", "add", "home", "http://h", said="two words\n", code=2)
    promptreel("servers", "add", "home", "http://h", said="", code=2)


@pytest.mark.parametrize(("name", "url"), [("local", "http://h"), ("a b", "http://h"), ("a", "h")])
def test_names_and_addresses_are_checked(promptreel, name, url):
    promptreel("servers", "add", name, url, said=SECRET, code=2)
    assert not promptreel.servers_file.exists()


def test_an_unknown_server_is_told_with_those_there_are(promptreel):
    promptreel("servers", "add", "home", "http://h", said=SECRET)
    for command in (["servers", "use", "x"], ["servers", "remove", "x"], ["list", "--server", "x"]):
        assert "local, home" in promptreel(*command, code=2).stderr


def test_the_server_in_use_is_asked_and_another_if_named(promptreel, api):
    promptreel("servers", "add", "home", api.url, said=api.key)
    promptreel("servers", "add", "away", "http://127.0.0.1:9", said=SECRET)
    promptreel("list")
    promptreel("servers", "use", "away")
    promptreel("list", "--server", "home")


def test_the_environment_wins_over_what_is_in_use_but_not_over_what_is_named(promptreel, api):
    promptreel("servers", "add", "home", api.url, said=api.key)
    promptreel("servers", "add", "wrong", api.url, said=SECRET)
    promptreel.talk_to(api.url, SECRET)
    assert "PROMPTREEL_URL" in promptreel("list", code=4).stderr
    promptreel("list", "--server", "home")
    promptreel.talk_to(api.url, api.key)
    promptreel("servers", "use", "wrong")
    promptreel("list")


def test_half_an_environment_is_told_by_the_missing_half(promptreel):
    promptreel.environment = {"PROMPTREEL_URL": "http://h"}
    assert "PROMPTREEL_API_KEY is not set" in promptreel("list", code=2).stderr
    promptreel.environment = {"PROMPTREEL_API_KEY": SECRET}
    done = promptreel("list", code=2)
    assert "PROMPTREEL_URL is not set" in done.stderr
    assert SECRET not in done.output
    promptreel.talk_to("nonsense", SECRET)
    assert "http://" in promptreel("list", code=2).stderr


def test_with_none_the_installation_of_the_folder_is_asked(promptreel, api, tmp_path):
    port = api.url.rpartition(":")[2]
    state = tmp_path / "there" / "state"
    config = tmp_path / "here" / "promptreel.yaml"
    config.write_text(f"{{data_dir: {state}, server: {{port: {port}}}}}")
    client_key(load_config(config))
    promptreel("list")
    promptreel("servers", "add", "away", "http://127.0.0.1:9", said=SECRET)
    promptreel("list", "--server", "local")
    promptreel("servers", "use", "local")
    promptreel("list")


def test_where_nothing_has_run_nothing_is_made(promptreel, tmp_path):
    assert "promptreel up" in promptreel("list", code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert list((tmp_path / "here").iterdir()) == []
