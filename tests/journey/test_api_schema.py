"""Schemathesis against a real API: requests drawn from its own specification, in every way it knows.

``make fuzz-api`` draws more of them, from another seed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml

from services.api.keys.sources import KeyFile, create_key
from services.emulators.replicate import replicate_server
from shared.config import load_config
from tests.journey.installation import (
    Installation,
    running_api,
    running_program,
    submit,
    wait_for,
    wait_until_answers,
)
from tests.journey.picture_installation import install_images

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "25")
SEED = os.environ.get("FUZZ_SEED", "1")
# Only Cloud Scheduler may call it, with a token of Google's.
NEVER_ANSWERED = {("POST", "/internal/sweep")}
# Whether they come before the end of what they are to end.
BY_CHANCE = {
    ("PATCH", "/api/v1/generations/{generation_id}"),
    ("POST", "/v1/jobs/{job_id}/cancel"),
}


@dataclass
class Target:
    """An installation of two owners, whose jobs and pictures take a moment."""

    installation: Installation
    keys: dict[str, str]

    def client(self) -> httpx.Client:
        return self.installation.client(key=self.keys["ada"])

    def write_owners(self, file: Path) -> None:
        bearers = {name: f"Bearer {key}" for name, key in self.keys.items()}
        users = [
            {"name": name, "fixedHeaders": [{"name": "Authorization", "value": bearer}]}
            for name, bearer in bearers.items()
        ]
        file.write_text(json.dumps({"auth": users}))

    @property
    def requests(self) -> list[dict]:
        """What the API has answered, as its log has it."""
        lines = (self.installation.folder / "api.log").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if entry["message"] == "request"]


@pytest.fixture
def target(tmp_path) -> Iterator[Target]:
    with ExitStack() as running:
        provider = running.enter_context(replicate_server(seconds=1, polls=None))
        installation = install_images(tmp_path, tmp_path, provider)
        config = installation.config
        # Nothing is to be refused because of what was asked before, nor because nobody signed it.
        config["plans"] = {"free": {"images_per_month": 10**6, "images_in_flight": 10**6}}
        config["limits"] = {
            "queued_per_model": None,
            "queued_per_owner": None,
            "wrong_keys_per_minute_per_address": None,
        }
        config["images"]["replicate"]["allow_unsigned_webhooks"] = True
        del config["images"]["replicate"]["webhook_secret_file"]
        config["models"]["wan2.1-demo"]["image_to_video"] = str(tmp_path)
        config["generate"] = {"wait_seconds": 0.5}
        installation.write_config()
        key_file = load_config(installation.config_file).server.key_file
        keys = {
            name: create_key(KeyFile(key_file), name, datetime.now(UTC)) for name in ("ada", "bob")
        }
        api = running.enter_context(running_api(installation.config_file))
        worker = [str(HERE / "scripted_worker.py")]
        running.enter_context(running_program(worker, installation.config_file, name="worker"))
        wait_until_answers(installation.url, api)
        yield Target(installation, keys)


def finished_job(client: httpx.Client) -> str:
    """One that its owner is to be told of."""
    client.put("/v1/webhook", json={"url": "https://reel.example/hooks"}).raise_for_status()
    job_id = submit(client, "ok")
    wait_for(client, job_id, "finished")
    return job_id


def fuzz(target: Target, client: httpx.Client) -> subprocess.CompletedProcess:
    folder = target.installation.folder
    target.write_owners(folder / "owners.json")
    (folder / "finished_jobs.dict").write_text(f'"{finished_job(client)}"\n')
    return subprocess.run(
        [
            SCHEMATHESIS,
            f"--config-file={shutil.copy(HERE / 'schemathesis.toml', folder)}",
            "--no-color",
            "run",
            f"{target.installation.url}/openapi.yaml",
            "--phases=examples,coverage,fuzzing,stateful",
            f"--max-examples={EXAMPLES}",
            f"--seed={SEED}",
            "--continue-on-failure",
            "--request-timeout=30",
        ],
        env={**os.environ, "PYTHONPATH": str(HERE)},  # where the hooks are
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.timeout(1800)  # of `make fuzz-api`; with the usual number of examples, half a minute
def test_the_api_does_what_its_specification_says(target):
    with target.client() as client:
        done = fuzz(target, client)
        assert done.returncode == 0, done.stdout + done.stderr
        specification = yaml.safe_load(client.get("/openapi.yaml").text)
    assert not [entry for entry in target.requests if entry["status"] >= 500]
    operations = {
        (method.upper(), path)
        for path, methods in specification["paths"].items()
        for method in methods
    }
    answered = {
        (entry["method"], as_path(entry["route"]))
        for entry in target.requests
        if entry["status"] < 400
    }
    assert operations - answered - BY_CHANCE == NEVER_ANSWERED


def as_path(rule: str) -> str:
    """A route as Flask writes it, as OpenAPI does."""
    return rule.replace("<path:", "<").replace("<", "{").replace(">", "}")
