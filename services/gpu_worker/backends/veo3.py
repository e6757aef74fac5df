"""The model veo3: clips are ordered from Veo on Vertex AI, waited for, and come as video files."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from services.gpu_worker.backends.backend import (
    Abilities,
    Clip,
    LoadedModel,
    Picture,
    Segment,
    SegmentWatcher,
)
from services.gpu_worker.backends.veo import (
    ASPECT_RATIOS,
    DURATIONS_SECONDS,
    Done,
    OperationLost,
    Pending,
    Veo,
    VeoRequest,
    ends_on_a_frame,
)
from services.gpu_worker.protocol import Load
from shared import config_sections
from shared.adapters.vertex.aspect_ratio import nearest_aspect_ratio
from shared.adapters.vertex.connection import Vertex
from shared.adapters.vertex.retries import Patience, RetryPolicy, sleep_attentively
from shared.adapters.vertex.still import Still
from shared.catalog import Model, Size
from shared.errors import InvalidRequest, ModelUnavailable

if TYPE_CHECKING:
    from services.gpu_worker.backends.clip_storage import ClipStorage

# Google takes ten orders a minute from a project.
_SEGMENTS_AT_ONCE = 4
# Each order is paid for, also those that are lost.
_ORDERS_AFTER_A_LOSS = 1
_SEEDS = 2**32
_720P = 720
_SECONDS_BETWEEN_NOTES = 30.0


def load(model: Model, order: Load, *, warn: Callable[[str], None]) -> LoadedModel:  # noqa: ARG001 - every backend's
    """Ready to order clips. Whatever can be checked without an order is.

    Raises ``ModelUnavailable`` when nobody could be asked as configured.
    """
    section = order.vertex
    if section is None:
        raise ModelUnavailable(
            f"{model.name} renders on Vertex AI: fill in the section vertex of the configuration."
        )
    Vertex.of(section).close()
    if section.output_gcs_uri is not None:
        _storage(section).close()
    return Veo3(section)


class Veo3:
    """A ``LoadedModel``. Each segment has connections of its own: several may be made at once."""

    def __init__(
        self,
        section: config_sections.Vertex,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._section = section
        self._clock = clock
        self._sleep = sleep

    @property
    def device(self) -> str:
        return "vertex ai"

    @property
    def abilities(self) -> Abilities:
        return Abilities(
            first_frame=True,
            last_frame=ends_on_a_frame(self._section.veo_model),
            segments_at_once=_SEGMENTS_AT_ONCE,
            needs_device=False,
        )

    def generate(self, segment: Segment, watcher: SegmentWatcher) -> Clip:
        """The clip, perhaps longer than the segment. What the watcher raises comes through at once.

        Raises ``InvalidRequest``, ``PromptRefused``, ``ModelUnavailable`` and, when it may work
        later, ``BackendUnavailable``: the same segment then goes on with the clip that was ordered.
        """
        request = _request(segment, self._section)
        wait = _Wait(watcher, self._clock, self._sleep)
        with Vertex.of(self._section, sleep=wait, tell=watcher.note) as vertex:
            order = _Order(request, Veo(vertex), watcher, wait, self._section.poll_seconds)
            video = order.fill().video
        if isinstance(video, str):
            video = self._copied(video, watcher, wait)
        watcher.note(f"The clip is there; waited {wait.seconds:.0f} s for it.")
        _tell_what_is_cut(segment, request, watcher)
        return Clip(video)

    def _copied(self, uri: str, watcher: SegmentWatcher, wait: "_Wait") -> bytes:
        retries = RetryPolicy(max_retries=self._section.max_retries)
        with _storage(self._section) as storage:
            return storage.read(uri, Patience(retries=retries, sleep=wait, tell=watcher.note))


class _Wait:
    """Sleeps so that the watcher can end it at any moment, and tells now and then that it goes on."""

    def __init__(
        self, watcher: SegmentWatcher, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._watcher = watcher
        self._clock = clock
        self._sleep = sleep
        self._since = clock()
        self._notes = 0

    @property
    def seconds(self) -> float:
        """Since the segment was asked for here."""
        return self._clock() - self._since

    def __call__(self, seconds: float) -> None:
        sleep_attentively(seconds, self._look, clock=self._clock, sleep=self._sleep)

    def _look(self) -> None:
        self._watcher.still_waiting()
        notes = int(self.seconds / _SECONDS_BETWEEN_NOTES)
        if notes > self._notes:
            self._notes = notes
            self._watcher.note(f"Still waiting for Veo: {self.seconds:.0f} s.")


@dataclass(frozen=True)
class _Order:
    """One clip, from whoever ordered it to the answer."""

    _request: VeoRequest
    _veo: Veo
    _watcher: SegmentWatcher
    _wait: _Wait
    _poll_seconds: float

    def fill(self) -> Done:
        """By the operation that was ordered before, if there is one; by another if it is lost."""
        orders_left = _ORDERS_AFTER_A_LOSS
        operation = self._watcher.operation
        if operation is None:
            operation = self._submit()
        else:
            self._watcher.note("Waiting for the clip that was ordered before.")
        while isinstance(outcome := self._outcome(operation), OperationLost):
            if not orders_left:
                raise outcome
            orders_left -= 1
            self._watcher.note(f"{outcome.message} Ordering another one.")
            operation = self._submit()
        return outcome

    def _submit(self) -> str:
        self._watcher.still_waiting()
        operation = self._veo.submit(self._request)
        # Before anything else: from here on it costs.
        self._watcher.ordered(operation)
        request = self._request
        self._watcher.note(
            f"Ordered a clip of {request.duration_seconds} s from Veo, {request.aspect_ratio} at "
            f"{request.resolution}, {'with' if request.generate_audio else 'without'} sound."
        )
        self._wait(self._poll_seconds)
        return operation

    def _outcome(self, operation: str) -> Done | OperationLost:
        try:
            while isinstance(outcome := self._veo.poll(operation), Pending):
                self._wait(self._poll_seconds)
        except OperationLost as lost:
            return lost
        return outcome


def _request(segment: Segment, section: config_sections.Vertex) -> VeoRequest:
    return VeoRequest(
        prompt=segment.prompt,
        negative_prompt=segment.negative_prompt,
        first_frame=_still(segment.first_frame),
        last_frame=_still(segment.last_frame),
        duration_seconds=_duration_seconds(segment),
        aspect_ratio=nearest_aspect_ratio(segment.size.width, segment.size.height, ASPECT_RATIOS),
        resolution=_resolution(segment.size),
        # Ours may be larger; the same one of ours is always the same one of Veo's.
        seed=segment.seed % _SEEDS,
        generate_audio=section.sound,
        output_gcs_uri=section.output_gcs_uri,
        model=section.veo_model,
    )


def _duration_seconds(segment: Segment) -> int:
    """The shortest that Veo offers and that holds the segment."""
    for seconds in DURATIONS_SECONDS:
        if segment.frames <= seconds * segment.fps:
            return seconds
    raise InvalidRequest(
        f"Veo makes clips of {DURATIONS_SECONDS[-1]} seconds at most.", field="duration"
    )


def _resolution(size: Size) -> str:
    # Named by the height of a clip that lies on its side.
    return "720p" if min(size.width, size.height) <= _720P else "1080p"


def _still(picture: Picture | None) -> Still | None:
    if picture is None:
        return None
    file = BytesIO()
    # It is sent once and read once: speed is worth more than a few bytes.
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return Still(file.getvalue(), "image/png")


def _tell_what_is_cut(segment: Segment, request: VeoRequest, watcher: SegmentWatcher) -> None:
    cut = request.duration_seconds - segment.seconds
    # One that ends on a given frame is shown whole.
    if cut > 0 and segment.last_frame is None:
        watcher.note(
            f"Veo makes and charges {request.duration_seconds} s; the last {cut:.2g} s are cut."
        )


def _storage(section: config_sections.Vertex) -> "ClipStorage":
    try:
        # Takes a second, and few have a bucket.
        from services.gpu_worker.backends.clip_storage import ClipStorage  # noqa: PLC0415
    except ImportError:
        raise ModelUnavailable(
            "Clips in a bucket are read with Google's own client: install promptreel[remote]."
        ) from None
    return ClipStorage(section)
