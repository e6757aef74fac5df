from pathlib import Path

import pytest

from services.gpu_worker.engine.demo_model import make_demo_model


@pytest.fixture(scope="session")
def demo_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo model, built once for all tests; nobody writes to it."""
    directory = tmp_path_factory.mktemp("models") / "wan2.1-demo"
    make_demo_model(directory)
    return directory
