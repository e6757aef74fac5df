"""The secrets that links are signed with: kept, read anew, and replaced by a command."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from typer.testing import CliRunner

from services.cli.app import app
from shared.adapters.local.signing_keys import SigningFile, id_of, rotate
from shared.errors import ConfigurationError

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "signing.key"


def test_a_new_secret_signs_and_the_one_before_counts_until_its_time(file):
    signing = SigningFile(file)
    first = signing().newest
    rotate(file, now=NOW, overlap=HOUR)
    second = signing().newest
    assert second != first
    assert signing().known(NOW + HOUR - timedelta(seconds=1)) == [second, first]
    assert signing().known(NOW + HOUR) == [second]


def test_several_of_before_are_kept_and_those_whose_time_is_over_are_not(file):
    signing = SigningFile(file)
    secrets = [signing().newest]
    for hours in range(4):
        rotate(file, now=NOW + hours * HOUR, overlap=2 * HOUR)
        secrets.append(signing().newest)
    assert signing().known(NOW) == secrets[:1:-1]
    assert secrets[1].hex() not in (file.parent / "signing.old.json").read_text()


def test_they_are_for_their_user_only_and_nothing_else_is_left(file):
    SigningFile(file)
    rotate(file, now=NOW, overlap=HOUR)
    found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()}
    assert found == {"signing.key": 0o600, "signing.old.json": 0o600}


def test_two_who_rotate_at_once_both_have_what_was_before_kept(file):
    signing = SigningFile(file)
    first = signing().newest
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: rotate(file, now=NOW, overlap=HOUR), range(8)))
    known = signing().known(NOW)
    assert len(set(known)) == 9
    assert first in known


def test_who_is_killed_between_the_two_files_leaves_every_link_good(file):
    signing = SigningFile(file)
    first = signing().newest
    before = file.read_bytes()
    rotate(file, now=NOW, overlap=HOUR)
    file.write_bytes(before)  # as if the second file had not been written
    assert set(signing().known(NOW)) == {first}
    rotate(file, now=NOW, overlap=HOUR)
    assert first in signing().known(NOW)


def test_a_links_key_id_tells_nothing_of_the_secret(file):
    signing = SigningFile(file)
    assert id_of(signing().newest) not in signing().newest.hex()
    assert "secret" not in repr(signing()).replace("SigningSecrets", "")
    assert signing().newest.hex() not in repr(signing())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"secrets": [{"secret": "ab", "until": "2026-01-31T12:00:00Z"}]}', "\xff"],
)
def test_a_broken_file_of_older_secrets_is_refused_and_not_quoted(file, text):
    SigningFile(file)
    (file.parent / "signing.old.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError, match=r"signing\.old\.json"):
        SigningFile(file)


# --- the command


@pytest.fixture
def run(tmp_path):
    config = tmp_path / "promptreel.yaml"

    def run(*options, **changes):
        config.write_text(yaml.safe_dump({"data_dir": ".", **changes}))
        return CliRunner().invoke(app, ["signing", "rotate", "--config", str(config), *options])

    return run


def test_the_command_keeps_old_links_for_as_long_as_any_may_live(run, file):
    signing = SigningFile(file)
    first = signing().newest
    done = run("--json", artifacts={"link_seconds": 60, "link_max_seconds": 7200})
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    rotated, until = (
        datetime.fromisoformat(told[name]) for name in ("rotated_at", "old_links_until")
    )
    assert until - rotated == timedelta(seconds=7200)
    assert signing().known(until - timedelta(seconds=1))[1:] == [first]
    assert signing().known(until) == [signing().newest]


def test_the_command_ends_old_links_at_once_if_told_to(run, file):
    signing = SigningFile(file)
    assert run("--overlap", "0m").exit_code == 0
    assert len(signing().known(datetime.now(UTC))) == 1


def test_the_command_prints_no_secret(run, file):
    before = SigningFile(file)().newest
    output = run().output
    for secret in (before, file.read_bytes()):
        assert secret.hex() not in output


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        (["--overlap", "soon"], {}, "no span of time"),
        ([], {"profile": "gcp", "gcp": {"project": "a-project"}}, "Google signs the links"),
    ],
)
def test_the_command_says_what_it_cannot_do(run, file, options, changes, said):
    before = SigningFile(file)().newest
    done = run(*options, **changes)
    assert done.exit_code == 2
    assert said in done.output
    assert SigningFile(file)().newest == before


def test_without_an_installation_the_command_says_so(run):
    done = run()
    assert done.exit_code == 2
    assert "signing.key" in done.output
