"""A small Wan model with random weights, built offline in seconds: the whole chain, no download.

It has the classes, the file layout and the geometry (8 pixels and 4 frames a latent, patches of
1x2x2) of Wan 2.1 T2V 1.3B. It knows nothing about the world: prompt and seed choose a soft field of
colours that moves. In a folder of its own lies its companion, laid out as Wan 2.1 VACE 1.3B, for
segments that begin with a picture.
"""

import argparse
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from services.gpu_worker.engine.replacement import is_occupied, replacement
from shared.errors import ConfigurationError

MARKER = "promptreel-demo-model.json"

# Raised whenever the same seed gives other weights: an older demo model is then rebuilt.
_VERSION = 2


def make_demo_model(
    directory: Path, *, seed: int = 0, report: Callable[[str], None] = lambda _: None
) -> None:
    """A complete demo model is in ``directory`` afterwards, or nothing has changed there.

    The same seed gives the same weights. A model that is already there is kept. Raises
    ``ConfigurationError`` when the directory holds anything but a demo model.
    """
    marker = {"version": _VERSION, "seed": seed}
    found = _read_marker(directory)
    if found == marker:
        report("The demo model is already there.")
        return
    if found is None and is_occupied(directory):
        problem = "it holds something else than a demo model; name another directory"
        raise ConfigurationError(directory, [("", problem)])
    report("Building the demo model ...")
    with replacement(directory) as built:
        _build(built, marker, seed=seed)
    report("The demo model is ready.")


def _read_marker(directory: Path) -> Any:  # noqa: ANN401 - whatever JSON it holds, to be compared
    """The marker's content, or None where there is no demo model."""
    try:
        return json.loads((directory / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _build(directory: Path, marker: dict[str, int], *, seed: int) -> None:
    # By name: only a build waits for torch to be imported, and who calls this need not know torch.
    network = import_module("services.gpu_worker.engine.demo_network")
    network.save_demo_pipeline(directory, seed=seed)
    for weights in directory.rglob("*.safetensors"):
        # Written for their owner alone, but the worker may be another user.
        weights.chmod(0o644)
    (directory / MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")


def main() -> int:
    """`python -m services.gpu_worker.engine.demo_model DIRECTORY`: what the command line starts."""
    parser = argparse.ArgumentParser(description="Build the demo model.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        make_demo_model(arguments.directory, seed=arguments.seed, report=_say)
    except ConfigurationError as error:
        _say(error.message)
        return 1
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
