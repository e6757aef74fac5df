"""The commands that talk to a server, as a person runs them, against `promptreel up`."""

import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field

import av
import httpx
import pytest

from services.emulators.serving import serving
from tests.journey.installation import PROMPTREEL, submit, wait_for
from tests.journey.test_command_line import watched_on_a_terminal

PROMPT = "a red circle moving left"
SECONDS = 120


@dataclass
class Shell:
    """A folder, and an environment that names a server or none."""

    folder: object
    environment: dict

    def start(self, *arguments, **options):
        return subprocess.Popen(
            [PROMPTREEL, *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def __call__(self, *arguments, code=0, said=None):
        with self.start(*arguments, stdin=subprocess.PIPE) as process:
            process.stdout_text, process.stderr_text = process.communicate(said, SECONDS)
        assert process.returncode == code, process.stderr_text
        assert "Traceback" not in process.stderr_text
        return process

    def objects(self, *arguments):
        lines = self(*arguments, "--json").stdout_text.splitlines()
        return [json.loads(line) for line in lines]


def shell_in(folder, **changes):
    mine = {name: it for name, it in os.environ.items() if not name.startswith("PROMPTREEL_")}
    homes = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_DATA_HOME": str(folder / "data")}
    return Shell(folder, {**mine, **homes, **changes})


@pytest.fixture
def shell(promptreel, tmp_path):
    return shell_in(tmp_path, PROMPTREEL_URL=promptreel.url, PROMPTREEL_API_KEY=promptreel.key)


@pytest.fixture(scope="module")
def finished(client):
    job_id = submit(client, PROMPT)
    wait_for(client, job_id, "finished")
    return job_id


@dataclass
class Proxy:
    """A connection to a server that breaks once, and then is down until it is mended."""

    url: str
    cut_after: int
    broken: bool = False
    ranges: list = field(default_factory=list)

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if self.broken:
            start_response("503 Service Unavailable", [("Retry-After", "999")])
            return []
        names = {"HTTP_HOST", "HTTP_AUTHORIZATION", "HTTP_RANGE", "HTTP_IF_RANGE"} & set(environ)
        headers = {name[5:].replace("_", "-"): environ[name] for name in names}
        reply = httpx.request(
            environ["REQUEST_METHOD"],
            f"{self.url}{path}?{environ['QUERY_STRING']}",
            headers={**headers, "Accept-Encoding": "identity"},
        )
        kept = ("content-type", "content-length", "content-range", "etag", "x-request-id")
        passed = [(name, value) for name, value in reply.headers.items() if name in kept]
        start_response(f"{reply.status_code} Passed", passed)
        if not path.startswith("/outputs/"):
            return [reply.content]
        self.ranges.append((environ.get("HTTP_RANGE"), len(reply.content)))
        if len(self.ranges) > 1:
            return [reply.content]
        self.broken = True
        return [reply.content[: self.cut_after]]


def frames(file):
    with av.open(file) as container:
        return sum(1 for _ in container.decode(video=0))


def test_submit_waits_and_saves_a_video_that_plays(shell, tmp_path):
    done = shell("submit", PROMPT, "--wait", "--out", "out/clip.mp4")
    assert re.fullmatch(r"job_[0-9a-f]{32}\n", done.stdout_text)
    assert "saved out/clip.mp4" in done.stderr_text
    assert frames(tmp_path / "out" / "clip.mp4") == 17


def test_programs_read_one_object_a_line(shell, finished, tmp_path):
    accepted, *events, saved = shell.objects("submit", PROMPT, "--out", "clip.mp4")
    assert accepted["status"] == "queued"
    assert events[-1]["event"] == "end"
    assert saved["bytes"] == (tmp_path / "clip.mp4").stat().st_size
    assert accepted["id"] in {job["id"] for job in shell.objects("list", "--all")}
    assert [job["status"] for job in shell.objects("list", "--limit", "1")] == ["finished"]
    assert shell.objects("watch", finished)[-1]["job"]["progress"] == 100
    assert shell.objects("logs", finished, "--tail", "1")[0]["line"]
    assert shell.objects("fetch", finished)[0]["id"] == finished


def submit_longer(client):
    """A job that is still at work when a command on a busy machine has started."""
    longer = client.post("/v1/videos", json={"prompt": PROMPT, "seconds": "4"})
    return longer.raise_for_status().json()["id"]


def test_watching_shows_progress_on_a_terminal(shell, client, promptreel, tmp_path):
    job_id = submit_longer(client)
    url, key = f"PROMPTREEL_URL={promptreel.url}", f"PROMPTREEL_API_KEY={promptreel.key}"
    screen = watched_on_a_terminal(["env", url, key, PROMPTREEL, "watch", job_id], tmp_path)
    assert re.search(r"step \d+/\d+", screen)
    assert "100%" in screen
    assert "finished" in screen
    assert "finished" in shell("watch", "last").stderr_text


def test_ctrl_c_stops_watching_not_the_job(shell, client):
    job_id = submit_longer(client)
    with shell.start("watch", job_id) as watching:
        first = watching.stderr.readline()
        assert "%" in first
        watching.send_signal(signal.SIGINT)
        rest = watching.stderr.read()
        assert watching.wait(20) == 130
    assert "the job goes on" in rest
    wait_for(client, job_id, "finished")


def test_a_download_that_was_cut_asks_only_for_the_rest(promptreel, finished, tmp_path):
    half = 2000
    proxy = Proxy(promptreel.url, cut_after=half)
    with serving(proxy) as url:
        shell = shell_in(tmp_path, PROMPTREEL_URL=url, PROMPTREEL_API_KEY=promptreel.key)
        shell("fetch", finished, "--out", "clip.mp4", code=3)
        assert not (tmp_path / "clip.mp4").exists()
        proxy.broken = False
        shell("fetch", finished, "--out", "clip.mp4")
    whole = (tmp_path / "clip.mp4").stat().st_size
    assert proxy.ranges == [(None, whole), (f"bytes={half}-", whole - half)]
    assert frames(tmp_path / "clip.mp4") == 17
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_log_is_followed_to_its_end_with_every_line_once(shell, client):
    job_id = submit(client, PROMPT)
    followed = shell("logs", job_id, "-f").stdout_text
    assert "step" in followed
    assert followed == shell("logs", job_id, "--tail", "2000").stdout_text
    assert shell("logs", job_id, "-f", "--tail", "3").stdout_text.count("\n") == 3


def test_a_job_is_canceled_by_the_first_letters_of_its_id(shell, client):
    before = submit(client, PROMPT)
    job_id = submit(client, PROMPT)
    assert job_id in shell("cancel", job_id[:-2]).stdout_text
    assert "No video" in shell("watch", job_id, code=1).stderr_text
    wait_for(client, before, "finished")


def test_a_wrong_key_an_unknown_job_and_no_server_have_their_exit_codes(
    shell, promptreel, tmp_path
):
    assert "no such job" in shell("watch", "job_" + "0" * 32, code=4).stderr_text
    wrong = "pr_00000000_" + "x" * 43
    stranger = shell_in(tmp_path, PROMPTREEL_URL=promptreel.url, PROMPTREEL_API_KEY=wrong)
    told = stranger("list", code=4).stderr_text
    assert "does not know this key" in told
    assert wrong not in told
    nowhere = shell_in(tmp_path, PROMPTREEL_URL="http://127.0.0.1:9", PROMPTREEL_API_KEY=wrong)
    assert "cannot be reached" in nowhere("list", code=3).stderr_text
    assert "promptreel up" in shell_in(tmp_path)("list", code=2).stderr_text
    shell("list", "--limit", "0", code=2)


def test_without_any_configuration_the_server_of_the_folder_is_asked(promptreel, finished):
    here = Shell(promptreel.folder, shell_in(promptreel.folder).environment)
    assert finished in here("list", "--all").stdout_text


def test_a_named_server_is_asked_with_its_key(promptreel, finished, tmp_path):
    shell = shell_in(tmp_path)
    shell("servers", "add", "studio", promptreel.url, said=promptreel.key)
    assert finished in shell("list", "--all").stdout_text
    assert finished in shell("list", "--all", "--server", "studio").stdout_text
    shell("list", "--server", "local", code=2)


def test_a_shell_completes_ids(shell, finished):
    shell.environment |= {
        "_PROMPTREEL_COMPLETE": "complete_bash",
        "COMP_WORDS": f"promptreel fetch {finished[:20]}",
        "COMP_CWORD": "2",
    }
    assert finished in shell().stdout_text
    shell.environment["PROMPTREEL_URL"] = "http://127.0.0.1:9"
    nothing = shell()
    assert nothing.stdout_text.strip() == ""
    assert nothing.stderr_text == ""


# --- keys


def test_keys_are_made_listed_rotated_and_revoked(promptreel, tmp_path):
    shell = shell_in(tmp_path)
    config = ("--config", str(promptreel.config_file))

    def status_with(key):
        with promptreel.client(key=key) as client:
            return client.get("/v1/jobs").status_code

    made = shell("keys", "create", "ada", "--scope", "read", "--note", "her laptop", *config)
    key = made.stdout_text.strip()
    assert "cannot be read again" in made.stderr_text
    assert status_with(key) == 200
    with promptreel.client(key=key) as client:
        assert client.post("/v1/jobs", json={"prompt": "a cat"}).status_code == 403
    key_id = key.split("_")[1]
    rows = shell("keys", "list", *config).stdout_text.splitlines()
    (row,) = [row for row in rows if row.startswith(key_id)]
    assert row.split()[1:4] == ["ada", "read", "good"]
    assert row.endswith("her laptop")
    assert "never" not in row
    new = shell("keys", "rotate", key, "--overlap", "0m", *config).stdout_text.strip()
    assert (status_with(key), status_with(new)) == (401, 200)
    new_id = new.split("_")[1]
    shell("keys", "revoke", new_id, *config)
    assert status_with(new) == 401
    states = {each["id"]: each["revoked_at"] for each in shell.objects("keys", "list", *config)}
    assert states[new_id] is not None
    assert "hash" not in shell("keys", "list", "--json", *config).stdout_text
    # For a server that runs elsewhere: a file to bring there.
    elsewhere = ("--file", str(tmp_path / "keys.json"))
    shell("keys", "create", "bob", *elsewhere)
    (bobs,) = shell.objects("keys", "list", *elsewhere)
    assert (bobs["owner"], bobs["last_used_at"]) == ("bob", None)
    for wrong in (
        ("create", "ada", "--plan", "gold"),
        ("create", "ada", "--expires", "soon"),
        ("create", ""),
        ("revoke", "ffffffff"),
        ("rotate", "ffffffff"),
    ):
        shell("keys", *wrong, *config, code=2)
