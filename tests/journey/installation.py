"""A whole Promptreel on this machine: real processes, real HTTP, a small model."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import yaml

from tests.http3_client import Http3Transport

PROMPTREEL = Path(sys.executable).with_name("promptreel")
START_SECONDS = 60
ROOT = Path(__file__).parents[2]

# What every installation serves HTTP/3 with, if it is to (`pytest --http3`).
certificates_of_all: Path | None = None


@dataclass
class Installation:
    """A configuration in a folder of its own, and what runs from it."""

    folder: Path
    config: dict
    up: subprocess.Popen | None = None

    @property
    def config_file(self) -> Path:
        return self.folder / "promptreel.yaml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config['server']['port']}"

    @property
    def secure_url(self) -> str:
        """Where it serves HTTP/3, 2 and 1.1, if it does."""
        return f"https://127.0.0.1:{self.config['server']['http3']['port']}"

    @property
    def authority(self) -> Path:
        """The certificate that its own is to be trusted by."""
        return Path(self.config["server"]["http3"]["certificate_file"]).with_name("ca.pem")

    @property
    def key(self) -> str:
        return (self.folder / "state" / "client.key").read_text()

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    def write_config(self) -> None:
        render = {"model": "wan2.1-demo"} | self.config["render"]
        self.config_file.write_text(yaml.safe_dump(self.config | {"render": render}))

    def client(self, *, key: str | None = None) -> httpx.Client:
        """Speaks HTTP/3 and nothing else where the suite is run over it, else HTTP/1.1."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        if "http3" not in self.config["server"]:
            return httpx.Client(base_url=self.url, headers=headers, timeout=120)
        # A link may lead to the plain port: `server.public_url` says so.
        only = {"https://": Http3Transport(self.authority)}
        return httpx.Client(base_url=self.secure_url, headers=headers, timeout=120, mounts=only)

    def process(self, module: str) -> psutil.Process:
        """The newest process of ours that runs a module."""
        found = [
            child
            for child in psutil.Process(self.up.pid).children(recursive=True)
            if module in child.cmdline()
        ]
        assert found, f"nothing runs {module}"
        return max(found, key=lambda child: child.create_time())

    @contextmanager
    def running(self, *options: str) -> Iterator["Installation"]:
        """`promptreel up`, ready to render; stopped as by Ctrl-C, and nothing is left of it."""
        self.write_config()
        with (self.folder / "up.log").open("ab") as log:
            self.up = subprocess.Popen(
                tied([PROMPTREEL, "up", "--config", self.config_file, *options]),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        family: list[psutil.Process] = []
        try:
            self.wait_until_it_can_render()
            yield self
            if self.up.poll() is None:
                family = psutil.Process(self.up.pid).children(recursive=True)
        finally:
            self.up.send_signal(signal.SIGINT)
            try:
                self.up.wait(20)
            finally:
                leftover = [process for process in family if process.is_running()]
                for process in leftover:
                    process.kill()
        assert not leftover, f"still running: {leftover}"

    def cut_the_power(self) -> None:
        """SIGKILL for everything at once."""
        family = psutil.Process(self.up.pid).children(recursive=True)
        for process in [self.up, *family]:
            process.kill()
        self.up.wait()
        psutil.wait_procs(family, timeout=5)

    def wait_until_it_can_render(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.up.poll() is None, self.log
            try:
                if httpx.get(f"{self.url}/health").json().get("model_loaded"):
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not ready in {START_SECONDS} s:\n{self.log}")


def tied(command: list) -> list:
    """The command, told to stop when the test run is killed: no fixture would do it then."""
    return [*(["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []), *command]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificates(folder: Path) -> Path:
    """A certificate authority's folder, with a certificate for this machine."""
    program = ROOT / "deploy/edge/make_certificates.sh"
    subprocess.run([program, folder, "127.0.0.1"], check=True, stdout=subprocess.DEVNULL)
    return folder


def http3_section(certificates: Path, **more: object) -> dict:
    return {
        "port": free_port(),
        "certificate_file": str(certificates / "127.0.0.1.pem"),
        "key_file": str(certificates / "127.0.0.1.key"),
        **more,
    }


def install(folder: Path, model_dir: Path, **changes: object) -> Installation:
    """Small clips and short leases, so that a test does not wait for what it does not test."""
    config = {
        "data_dir": "state",
        "server": {"port": free_port()},
        "render": {"duration_seconds": 1, "resolution": "240p"},
        "models": {"wan2.1-demo": {"dir": str(model_dir)}},
        "worker": {
            "lease_seconds": 4,
            "heartbeat_seconds": 1,
            "sweep_seconds": 0.5,
            "metrics_port": None,
        },
    }
    if certificates_of_all is not None:
        config["server"]["http3"] = http3_section(certificates_of_all)
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    return Installation(folder, config)


def submit(client: httpx.Client, prompt: str) -> str:
    return client.post("/v1/jobs", json={"prompt": prompt}).raise_for_status().json()["id"]


def log_of(client: httpx.Client, job_id: str) -> str:
    return "\n".join(client.get(f"/v1/jobs/{job_id}/logs?tail=2000").json()["lines"])


def wait_for_line(client: httpx.Client, job_id: str, line: str, *, seconds: float = 60) -> None:
    """Until the job's log holds it."""
    deadline = time.monotonic() + seconds
    while line not in (log := log_of(client, job_id)):
        assert time.monotonic() < deadline, log
        time.sleep(0.1)


def wait_for(client: httpx.Client, job_id: str, *statuses: str, seconds: float = 60) -> dict:
    """Poll as a caller would."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        if job["status"] in statuses:
            return job
        time.sleep(0.1)
    raise AssertionError(f"{job} is not {' or '.join(statuses)} after {seconds} s")


def running_api(config_file: Path, **environment: str) -> AbstractContextManager[subprocess.Popen]:
    """Only the API, as a container would run it."""
    return running_program(["-m", "services.api.main"], config_file, name="api", **environment)


def running_worker(
    config_file: Path, *options: str, name: str = "worker", **environment: str
) -> AbstractContextManager[subprocess.Popen]:
    """Only a worker that pulls."""
    module = ["-m", "services.gpu_worker.pull"]
    return running_program([*module, *options], config_file, name=name, **environment)


@contextmanager
def running_program(
    arguments: list[str], config_file: Path, *, name: str, **environment: str
) -> Iterator[subprocess.Popen]:
    """A Python program of ours; its log is in a file of its name beside the configuration."""
    with (config_file.parent / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            tied([sys.executable, *arguments]),
            env={**os.environ, "PROMPTREEL_CONFIG": str(config_file), **environment},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def wait_until_answers(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            if httpx.get(f"{url}/healthz").is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer in {START_SECONDS} s")
