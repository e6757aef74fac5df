"""A worker's start taken apart, in a process of its own: what `cold_start.py` asks for.

    python benchmarks/start_phases.py KIND STARTED_AT MODEL_DIR SNAPSHOT_DIR

Does what a render process does from its first line to `Ready`, and says what each part took. It is
no start to be timed as a whole: torch is imported first, alone, and then weighs on nothing else.
`STARTED_AT` is the moment of the spawn on the machine's monotonic clock.
"""

import sys
import time

SEEN_AT = time.monotonic()

# Here, not at the top: the moment above is the first that the interpreter lets us have.
import json  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


class Phases:
    """Seconds a phase; a phase that is done within another is not counted twice."""

    def __init__(self, since: float) -> None:
        self.seconds: dict[str, float] = {}
        self._since = since
        self._inner = 0.0

    def done(self, name: str, at: float | None = None) -> None:
        now = at or time.monotonic()
        self.seconds[name] = now - self._since - self._inner
        self._since, self._inner = now, 0.0

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted by itself."""

        def run(*arguments: object, **named: object) -> object:
            started = time.monotonic()
            result = function(*arguments, **named)
            seconds = time.monotonic() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self._inner += seconds
            return result

        return run


def start_ours(phases: Phases, model_dir: Path, snapshot_dir: Path | None) -> None:
    import services.gpu_worker.render_process  # noqa: PLC0415 - its import is what is timed
    from services.gpu_worker.backends import wan  # noqa: PLC0415
    from services.gpu_worker.protocol import Load  # noqa: PLC0415
    from shared.catalog import find_model  # noqa: PLC0415

    phases.done("our imports")
    import torch  # noqa: F401, PLC0415

    phases.done("import torch")
    import services.gpu_worker.engine.wan  # noqa: F401, PLC0415 - likewise
    from services.gpu_worker.engine import checkpoint, snapshot  # noqa: PLC0415
    from services.gpu_worker.engine.weights_file import WeightsFile  # noqa: PLC0415

    phases.done("engine and tokenizers")
    for module in (checkpoint, snapshot):
        module.load_tokenizer = phases.timed("tokenizer", module.load_tokenizer)
    snapshot.load_package = phases.timed("packages", snapshot.load_package)
    checkpoint.load_file = phases.timed("read weights", checkpoint.load_file)
    WeightsFile.map = phases.timed("read weights", WeightsFile.map)
    order = Load(
        model="wan2.1-demo",
        model_dir=model_dir,
        snapshot_dir=snapshot_dir,
        device="cpu",
        dtype="auto",
    )
    wan.load(find_model(order.model), order, warn=_complain)
    phases.done("modules")


def start_reference(phases: Phases, model_dir: Path) -> None:
    import torch  # noqa: F401, PLC0415

    phases.done("import torch")
    from services.gpu_worker.engine.reference import load_reference  # noqa: PLC0415

    phases.done("import diffusers, transformers")
    load_reference(model_dir, device="cpu", dtype="auto", how_to_get="")
    phases.done("from_pretrained")


def _complain(warning: str) -> None:
    raise AssertionError(warning)


def main() -> None:
    kind, started_at, model_dir, snapshot_dir = sys.argv[1:]
    phases = Phases(float(started_at))
    phases.done("interpreter", SEEN_AT)
    if kind == "reference":
        start_reference(phases, Path(model_dir))
    else:
        start_ours(phases, Path(model_dir), Path(snapshot_dir) if kind == "snapshot" else None)
    print(json.dumps(phases.seconds))


if __name__ == "__main__":
    main()
