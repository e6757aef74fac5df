"""Who plans and who draws: Gemini, where one is configured, else rules and the video model itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from services.gpu_worker.pipeline.division import divide
from services.gpu_worker.pipeline.watcher import Watcher, stop_if_canceled
from services.gpu_worker.protocol import Load
from shared.adapters.vertex.gemini import PlannedSegment
from shared.adapters.vertex.retries import sleep_attentively
from shared.adapters.vertex.still import Still
from shared.errors import ModelUnavailable

Artist = TypeVar("Artist")


@dataclass(frozen=True)
class Studio:
    """As the worker was configured; holds nothing open."""

    order: Load

    @property
    def draws(self) -> bool:
        """Keyframes are drawn here, and not by the video model."""
        return self.order.painter is not None

    def plan(
        self, prompt: str, *, segments: int, seconds_each: float, keyframes: bool, watcher: Watcher
    ) -> tuple[PlannedSegment, ...]:
        """Raises ``PromptRefused``, ``ModelUnavailable``, ``BackendUnavailable``."""
        if self.order.planner is None:
            return divide(prompt, segments)
        # Here, not above: its HTTP client would make every worker's start longer, and few ask Gemini.
        from services.gpu_worker.backends import gemini_studio  # noqa: PLC0415

        planner = self._with_gemini(gemini_studio.planner, self.order.planner, watcher)
        return planner.plan(
            prompt, segments=segments, seconds_each=seconds_each, keyframes=keyframes
        )

    def draw(self, description: str, *, references: tuple[bytes, ...], watcher: Watcher) -> Still:
        """A picture as described, after the references and those of the configuration.

        Raises ``PromptRefused``, ``ModelUnavailable``, ``BackendUnavailable``.
        """
        if self.order.painter is None:
            raise AssertionError("nobody draws here")
        from services.gpu_worker.backends import gemini_studio  # noqa: PLC0415 - see ``plan``

        painter = self._with_gemini(gemini_studio.painter, self.order.painter, watcher)
        width, height = map(int, self.order.image_size.split("x"))
        return painter.draw(
            description,
            references=(*self._configured_references(), *references),
            aspect_ratio=gemini_studio.aspect_ratio_of(width, height),
        )

    def _with_gemini(self, hire: Callable[..., Artist], model: str, watcher: Watcher) -> Artist:
        if self.order.vertex is None:
            raise ModelUnavailable("Gemini is asked on Vertex AI: fill in the section vertex.")

        def sleep(seconds: float) -> None:
            sleep_attentively(seconds, lambda: stop_if_canceled(watcher))

        return hire(self.order.vertex, model, sleep=sleep, tell=watcher.log)

    def _configured_references(self) -> tuple[bytes, ...]:
        try:
            return tuple(file.read_bytes() for file in self.order.reference_images)
        except OSError:
            pass
        raise ModelUnavailable(
            "A picture cannot be read: see reference_images in the configuration."
        )
