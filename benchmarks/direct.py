"""One render process with a model, driven over its pipes: no API, store, queue or upload around it."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from services.gpu_worker.orders import render_command
from services.gpu_worker.protocol import Load, Ready, Render, Rendered, RenderFailed, parse_event
from shared.catalog import Model
from shared.job import RenderRequest


class Direct:
    """Use as a context: on leaving, the process has ended."""

    def __init__(self, model: Model, model_dir: Path, *, snapshot_dir: Path | None = None) -> None:
        started = time.perf_counter()
        self._model = model
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.gpu_worker.render_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._say(
            Load(
                model=model.name,
                model_dir=model_dir,
                snapshot_dir=snapshot_dir,
                device="cpu",
                dtype="auto",
            )
        )
        ready = parse_event(self._process.stdout.readline())
        self.start_seconds = time.perf_counter() - started
        assert isinstance(ready, Ready), ready
        # A snapshot that is refused is a warning, and another start than the one to be measured.
        assert not ready.warnings, ready.warnings

    def render(
        self, preset: str, *, seed: int, prompt: str, duration_seconds: int, resolution: str
    ) -> float:
        """Seconds from the command to the finished files."""
        request = RenderRequest(
            prompt=prompt,
            model=self._model.name,
            duration_seconds=duration_seconds,
            resolution=resolution,
            preset=preset,
            seed=seed,
        )
        with tempfile.TemporaryDirectory() as folder:
            return self.render_to(Path(folder), request)

    def render_to(self, folder: Path, request: RenderRequest) -> float:
        """The same; the files, ``final_video.mp4`` among them, stay in the folder."""
        started = time.perf_counter()
        self._say(render_command("direct", request, self._model, folder))
        while not isinstance(event := parse_event(self._process.stdout.readline()), Rendered):
            assert not isinstance(event, RenderFailed), event
        return time.perf_counter() - started

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _say(self, command: Load | Render) -> None:
        self._process.stdin.write(command.encode())
        self._process.stdin.flush()
