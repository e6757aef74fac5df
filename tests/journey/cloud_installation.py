"""An installation as in the cloud: Firestore, Pub/Sub and Cloud Storage, over the wire to emulators."""

import time
from contextlib import ExitStack, contextmanager

import httpx

from services.cli.client_key import client_key
from services.emulators.cloud import emulated_cloud
from shared.config import load_config
from tests.journey.installation import running_api, wait_until_answers


@contextmanager
def in_the_cloud(installation, *, push_endpoint=None):
    """An API on emulators of its own; yields a client, and what a worker needs to join it."""
    installation.write_config()
    config = load_config(installation.config_file)
    key = client_key(config).secret
    with ExitStack() as running:
        cloud = running.enter_context(
            emulated_cloud(config, installation.folder / "cloud", push_endpoint=push_endpoint)
        )
        api = running.enter_context(running_api(cloud.config_file, **cloud.environment))
        wait_until_answers(installation.url, api)
        yield running.enter_context(installation.client(key=key)), cloud


def wait_for_workers(client, count):
    deadline = time.monotonic() + 60
    while client.get("/health").json()["workers"] < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def stored_files(cloud, job):
    """The names of a job's objects in the bucket, asked for as anybody would."""
    folder = job["gcs_uri"].removeprefix("gs://promptreel/").removesuffix("final_video.mp4")
    listing = f"{cloud.environment['STORAGE_EMULATOR_HOST']}/storage/v1/b/promptreel/o"
    objects = httpx.get(listing, params={"prefix": folder}).raise_for_status().json()["items"]
    return sorted(entry["name"].removeprefix(folder) for entry in objects)
