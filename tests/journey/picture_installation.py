"""An installation that has pictures made, by a provider on this machine."""

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx

from services.cli.client_key import client_key
from services.emulators.replicate import API_TOKEN, WEBHOOK_SECRET, ReplicateServer
from shared.config import load_config
from tests.journey.installation import install, running_api, wait_until_answers

GENERATIONS = "/api/v1/generations"
PROMPT = "a paper boat on a pond, seen from above"


@dataclass
class Place:
    """Where one owner orders pictures, whatever it is made of."""

    client: httpx.Client
    provider: ReplicateServer
    asked_before: int = 0

    def order(self, *, key: str | None = None, **fields: object) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.client.post(GENERATIONS, json={"prompt": PROMPT} | fields, headers=headers)

    def read(self, generation: dict) -> dict:
        return self.client.get(f"{GENERATIONS}/{generation['id']}").raise_for_status().json()

    def wait_for(self, generation: dict, word: str, *, seconds: float = 60) -> dict:
        deadline = time.monotonic() + seconds
        while (seen := self.read(generation))["status"] != word:
            assert time.monotonic() < deadline, seen
            time.sleep(0.1)
        return seen

    def used(self) -> int:
        return self.client.get("/api/v1/usage").raise_for_status().json()["used"]

    def asked(self, call: str) -> list:
        """What the provider was asked by this test."""
        return [it for it in self.provider.asked[self.asked_before :] if it.call == call]


def install_images(folder, demo_model_dir, provider):
    """An installation that has its pictures made."""
    (folder / "token").write_text(API_TOKEN)
    (folder / "secret").write_text(WEBHOOK_SECRET)
    installation = install(
        folder,
        demo_model_dir,
        images={
            "stale_seconds": 1,
            "replicate": {
                "api_token_file": "token",
                "webhook_secret_file": "secret",
                "base_url": provider.url,
                "output_hosts": [provider.url],
            },
        },
        plans={"free": {"images_per_month": 4, "images_in_flight": 1}},
    )
    installation.config["server"]["public_url"] = installation.url
    return installation


@contextmanager
def on_this_machine(installation):
    """The API alone: nothing here needs a worker."""
    installation.write_config()
    key = client_key(load_config(installation.config_file)).secret
    with ExitStack() as running:
        api = running.enter_context(running_api(installation.config_file))
        wait_until_answers(installation.url, api)
        yield running.enter_context(installation.client(key=key)), api
