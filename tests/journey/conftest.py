import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import tests.journey.installation
from services.emulators.vertex import API_KEY, VertexServer, vertex_server
from tests.journey.installation import (
    PROMPTREEL,
    Installation,
    free_port,
    install,
    make_certificates,
    running_api,
    wait_until_answers,
)


def pytest_addoption(parser):
    parser.addoption(
        "--http3", action="store_true", help="serve and ask every installation over HTTP/3"
    )


@pytest.fixture(scope="session", autouse=True)
def over_http3(request, tmp_path_factory) -> Iterator[None]:
    if not request.config.getoption("--http3", default=False):
        yield
        return
    folder = make_certificates(tmp_path_factory.mktemp("certificates"))
    tests.journey.installation.certificates_of_all = folder
    with pytest.MonkeyPatch.context() as environment:
        # Links lead to https then: whoever fetches one, here or in a process, is to trust this authority.
        environment.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        yield


@pytest.fixture(scope="session")
def demo_model_dir(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "wan2.1-demo"
    subprocess.run([PROMPTREEL, "make-demo-model", directory], check=True)
    return directory


@pytest.fixture
def installation(tmp_path, demo_model_dir) -> Installation:
    return install(tmp_path, demo_model_dir)


@pytest.fixture
def vertex() -> Iterator[VertexServer]:
    with vertex_server(polls=2) as server:
        yield server


@pytest.fixture
def installation_with_vertex(tmp_path, demo_model_dir, vertex) -> Installation:
    """One that may render anything: which backend does is one line of its configuration."""
    (tmp_path / "vertex.key").write_text(API_KEY)
    companion = demo_model_dir / "image-to-video"
    return install(
        tmp_path,
        demo_model_dir,
        models={"wan2.1-demo": {"dir": str(demo_model_dir), "image_to_video": str(companion)}},
        vertex={
            "base_url": vertex.url,
            "api_key_file": str(tmp_path / "vertex.key"),
            "poll_seconds": 0.2,
            "max_retries": 0,
        },
    )


@pytest.fixture(scope="session")
def promptreel(tmp_path_factory, demo_model_dir) -> Iterator[Installation]:
    """One installation for every test that does not break it."""
    with install(tmp_path_factory.mktemp("promptreel"), demo_model_dir).running() as running:
        yield running


@pytest.fixture(scope="session")
def client(promptreel) -> Iterator[httpx.Client]:
    with promptreel.client() as client:
        yield client


@pytest.fixture(scope="session")
def impatient_url(promptreel, tmp_path_factory) -> Iterator[str]:
    """A second API on the same jobs, whose /generate waits half a second."""
    folder = tmp_path_factory.mktemp("impatient")
    config = {
        **promptreel.config,
        "data_dir": str(promptreel.folder / "state"),
        "server": {"port": free_port()},
        "generate": {"wait_seconds": 0.5},
    }
    impatient = Installation(folder, config)
    impatient.write_config()
    with running_api(impatient.config_file) as process:
        wait_until_answers(impatient.url, process)
        yield impatient.url
