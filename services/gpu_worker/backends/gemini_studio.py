"""Gemini as the pipeline knows it: a planner and a painter, and nothing of Google to be opened or closed.

Each call has a connection of its own: several may run at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared import config_sections
from shared.adapters.vertex.aspect_ratio import nearest_aspect_ratio
from shared.adapters.vertex.connection import Vertex
from shared.adapters.vertex.gemini import ASPECT_RATIOS, Gemini, PlannedSegment
from shared.adapters.vertex.still import Still


@dataclass(frozen=True)
class Planner:
    """Plans the segments of a long video."""

    _connect: Callable[[], Vertex]
    _model: str

    def plan(
        self, prompt: str, *, segments: int, seconds_each: float, keyframes: bool
    ) -> tuple[PlannedSegment, ...]:
        """That many segments, with keyframe descriptions if asked for.

        Raises ``PromptRefused``, ``ModelUnavailable``, ``BackendUnavailable``.
        """
        with self._connect() as vertex:
            return Gemini(vertex, planner=self._model).plan(
                prompt, segments=segments, seconds_each=seconds_each, keyframes=keyframes
            )


@dataclass(frozen=True)
class Painter:
    """Draws stills."""

    _connect: Callable[[], Vertex]
    _model: str

    def draw(
        self,
        description: str,
        *,
        references: tuple[Still | bytes, ...] = (),
        aspect_ratio: str = "16:9",
        size: str | None = None,
    ) -> Still:
        """A picture as described, after the references (PNG, JPEG, WebP); size is 1K, 2K, 4K or None.

        Raises ``InvalidRequest``, ``PromptRefused``, ``ModelUnavailable``, ``BackendUnavailable``.
        """
        contents = tuple(
            still.content if isinstance(still, Still) else still for still in references
        )
        with self._connect() as vertex:
            return Gemini(vertex, painter=self._model).draw(
                description, references=contents, aspect_ratio=aspect_ratio, size=size
            )


def planner(
    section: config_sections.Vertex,
    model: str,
    *,
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
) -> Planner:
    """A Gemini model that plans. ``tell`` hears of each retry; what it or ``sleep`` raises stops it."""
    return Planner(lambda: Vertex.of(section, sleep=sleep, tell=tell), model)


def painter(
    section: config_sections.Vertex,
    model: str,
    *,
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
) -> Painter:
    """A Gemini model that draws. ``tell`` hears of each retry; what it or ``sleep`` raises stops it."""
    return Painter(lambda: Vertex.of(section, sleep=sleep, tell=tell), model)


def aspect_ratio_of(width: int, height: int) -> str:
    """The shape Gemini can draw that is nearest to a size in pixels."""
    return nearest_aspect_ratio(width, height, ASPECT_RATIOS)
