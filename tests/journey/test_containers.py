"""The services as their images start them: the same command, environment, packages and code, and a whole job."""

import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from openai import OpenAI

from services.cli.client_key import client_key
from services.emulators.cloud import PROJECT, Cloud, emulated_cloud
from shared.adapters.gcp.pubsub_topology import PushTarget, create_topology
from shared.catalog import TOPIC_GPU, TOPIC_REMOTE
from shared.config import load_config
from shared.messages import TOPIC_WEBHOOKS
from tests.dockerfiles import API, BAKE, GPU_WORKER, REMOTE_WORKER, STATE
from tests.journey.containers import Container, lay_out
from tests.journey.installation import START_SECONDS, free_port, submit, wait_for
from tests.webhook_receiver import webhook_receiver

# How Terraform starts the courier, of the API's image.
COURIER = (
    "functions-framework",
    *("--source", "services/courier/main.py", "--target", "deliver", "--signature-type", "http"),
)
CONFIGURATION = "/etc/promptreel/configuration/promptreel.yaml"
MODEL = "wan2.1-demo"
# Of Cloud Run, before it kills.
STOP_SECONDS = 10


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Each laid out once: nothing is written to them but where they may write."""
    folder = tmp_path_factory.mktemp("images")
    named = {
        "api": API,
        "courier": API,
        "gpu-worker": GPU_WORKER,
        "bake": BAKE,
        "remote-worker": REMOTE_WORKER,
    }
    return {name: lay_out(image, folder / name) for name, image in named.items()}


@pytest.fixture(scope="module")
def snapshot(images, demo_model_dir, tmp_path_factory):
    """Baked as the job does it, by the image that has the weights, and looked through as the build does."""
    directory = tmp_path_factory.mktemp("snapshots") / MODEL
    baking = ["python", "-m", "services.gpu_worker.engine.bake"]
    done = images["bake"].run(
        *baking, str(demo_model_dir), str(directory), "--model", MODEL, "--no-compile"
    )
    assert done.returncode == 0, done.stderr
    looking = ["python", "-m", "services.gpu_worker.engine.manifest", str(directory)]
    assert images["gpu-worker"].run(*looking).returncode == 0
    (directory / "tokenizer.json").write_bytes(b"{}")
    damaged = images["gpu-worker"].run(*looking)
    assert "tokenizer.json" in damaged.stderr
    assert damaged.returncode == 1
    (directory / "tokenizer.json").write_bytes(
        (demo_model_dir / "tokenizer/tokenizer.json").read_bytes()
    )
    return directory


@dataclass
class Deployed:
    """Containers on emulators, each at a port that it is told as by Cloud Run."""

    cloud: Cloud
    running: ExitStack

    def start(self, container: Container, *command, topic=None, **configuration):
        """The address it listens at; what Pub/Sub has for the topic is pushed there."""
        port = free_port()
        self.configure(container, **configuration)
        if topic is not None:
            with self.cloud.spoken_to():
                push = PushTarget(endpoint=f"http://127.0.0.1:{port}/")
                create_topology(PROJECT, topics=[topic], push=push)
        process = self.running.enter_context(
            stopped_in_time(container, *command, PORT=str(port), **self.cloud.environment)
        )
        wait_until_it_listens(port, container, process)
        # What listens at 127.0.0.1 alone is not reached in a container.
        return f"http://127.0.0.2:{port}"

    def configure(self, container: Container, **configuration):
        """By a file where the image looks for it, as Terraform mounts it there."""
        config = yaml.safe_load(self.cloud.config_file.read_text())
        config |= {"data_dir": str(container.path(STATE)), **configuration}
        container.path(CONFIGURATION).write_text(yaml.safe_dump(config))

    def start_api(self, container: Container, **configuration):
        """Its address, and a client with a key of its own."""
        # Where it would listen if nobody told it better.
        server = {"host": "127.0.0.1", "port": 1, "key_file": "keys.json"}
        self.configure(container, server=server, **configuration)
        key = client_key(load_config(container.path(CONFIGURATION))).secret
        url = self.start(container, server=server, **configuration)
        wait_until_it_says(f"{url}/readyz", 200)
        headers = {"Authorization": f"Bearer {key}"}
        return self.running.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))


@contextmanager
def stopped_in_time(container, *command, **environment):
    """A container that ends by itself when it is told to, and has written where it may alone."""
    files = container.files()
    with container.started(*command, **environment) as process:
        yield process
        assert process.poll() is None, container.log
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0, container.log
    assert container.files() == files


@pytest.fixture
def deployed(installation, pubsub_emulator_host):
    installation.config["webhooks"] = {"allow_private_addresses": True, "request_seconds": 10}
    installation.write_config()
    config = load_config(installation.config_file)
    with (
        emulated_cloud(config, installation.folder / "cloud") as cloud,
        ExitStack() as running,
    ):
        yield Deployed(cloud, running)


def wait_until_it_listens(port, container, process):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, container.log
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(container.log)


def wait_until_it_says(url, status):
    """As a startup probe asks; the answer."""
    deadline = time.monotonic() + START_SECONDS
    while (answer := httpx.get(url, timeout=30)).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    return answer


def test_a_job_goes_through_the_images_as_they_are_started_in_the_cloud(
    deployed, images, snapshot, tmp_path
):
    client = deployed.start_api(images["api"])
    # The image has no weights, only what was baked of them.
    models = {MODEL: {"dir": str(tmp_path / "nothing"), "snapshot": str(snapshot)}}
    worker = images["gpu-worker"]
    url = deployed.start(worker, topic=TOPIC_GPU, models=models)
    assert wait_until_it_says(f"{url}/health", 200).json() == {"model_loaded": True}
    deployed.start(images["courier"], *COURIER, topic=TOPIC_WEBHOOKS)
    with webhook_receiver() as receiver:
        secret = client.put("/v1/webhook", json={"url": receiver.url}).json()["secret"]
        job_id = submit(client, "a red circle")
        assert wait_for(client, job_id, "finished", "failed")["status"] == "finished", worker.log
        link = client.get(f"/v1/jobs/{job_id}/artifact").json()["url"]
        assert httpx.get(link).content[4:8] == b"ftyp"
        (received,) = receiver.wait_for(1)
    event = OpenAI(api_key="none").webhooks.unwrap(
        received.body, dict(received.headers), secret=secret
    )
    assert event.data.id == job_id


def test_a_job_goes_through_the_remote_worker_without_torch(
    deployed, images, installation_with_vertex
):
    worker = images["remote-worker"]
    (site,) = Path(worker.path("/opt/promptreel")).glob("lib/python3.*/site-packages")
    assert not (site / "torch").exists()
    veo = {
        "default_backend": "veo3",
        "worker": {"backend": "veo3"},
        "vertex": installation_with_vertex.config["vertex"],
    }
    url = deployed.start(worker, topic=TOPIC_REMOTE, **veo)
    assert wait_until_it_says(f"{url}/health", 200).json() == {"model_loaded": True}
    client = deployed.start_api(images["api"], default_backend="veo3")
    job_id = submit(client, "a red circle")
    assert wait_for(client, job_id, "finished", "failed")["status"] == "finished", worker.log


@pytest.mark.parametrize("name", ["api", "gpu-worker", "remote-worker"])
def test_without_a_configuration_a_service_ends_and_names_the_file(images, name):
    container = images[name]
    container.path(CONFIGURATION).unlink(missing_ok=True)
    done = container.run(*container.image.command)
    assert done.returncode == 2
    assert str(container.path(CONFIGURATION)) in done.stderr
