"""Replicate's predictions: they start, run and end, by being asked for, as time goes by, or by hand."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from services.emulators.replicate_errors import not_found
from services.emulators.replicate_pictures import draw, size_of
from services.emulators.replicate_script import (
    Aborts,
    Fails,
    NeverEnds,
    Outcome,
    Script,
    Succeeds,
)

Json = dict[str, Any]

_RUNNING = ("starting", "processing")
_TICK_SECONDS = 0.01


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class _Prediction:
    id: str
    model: str
    asked: Mapping[str, Any]
    outcome: Outcome
    polls_left: int | None
    starts_at: float | None
    ends_at: float | None
    status: str = "starting"
    output: Any = None
    error: str | None = None
    created_at: str = field(default_factory=_now)
    started_at: str | None = None
    completed_at: str | None = None


class Predictions:
    """All that were created. ``tell`` hears of each event, with the prediction as it then is."""

    def __init__(
        self,
        script: Script,
        *,
        polls: int | None,
        seconds: float | None,
        tell: Callable[[str, Json], None],
    ) -> None:
        self.polls = (
            polls  # how often a prediction is asked for before it ends; None: that ends none
        )
        self.seconds = seconds  # how long it takes to end by itself; None: it does not
        self.url = ""  # where it is served
        self.files: dict[tuple[str, str], bytes] = {}
        self._script = script
        self._tell = tell
        self._lock = threading.RLock()
        self._all: dict[str, _Prediction] = {}
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._run_clock)
        self._clock.start()

    @property
    def ids(self) -> list[str]:
        """In the order they were created."""
        return list(self._all)

    def create(self, model: str, body: Mapping[str, Any]) -> Json:
        outcome = self._script.take_outcome()
        polls = self.polls if outcome.polls is None else outcome.polls
        seconds = self.seconds if outcome.seconds is None else outcome.seconds
        now = time.monotonic()
        prediction = _Prediction(
            id=secrets.token_hex(13),
            model=model,
            asked=body,
            outcome=outcome,
            polls_left=polls,
            starts_at=None if seconds is None else now + seconds / 2,
            ends_at=None if seconds is None else now + seconds,
        )
        with self._lock:
            self._all[prediction.id] = prediction
            return self._as_json(prediction)

    def read(self, prediction_id: str) -> Json:
        """How it stands, without being asked for by the outside."""
        with self._lock:
            return self._as_json(self._find(prediction_id))

    def poll(self, prediction_id: str) -> Json:
        """As whoever asks sees it, who thereby moves it on."""
        with self._lock:
            prediction = self._find(prediction_id)
            if prediction.polls_left == 0:
                self._end(prediction)
            elif prediction.polls_left is not None:
                prediction.polls_left -= 1
                self._start(prediction)
            return self._as_json(prediction)

    def cancel(self, prediction_id: str) -> Json:
        """One that has ended stays as it is."""
        with self._lock:
            prediction = self._find(prediction_id)
            if prediction.status in _RUNNING:
                self._close(prediction, "canceled")
            return self._as_json(prediction)

    def start(self, prediction_id: str) -> None:
        """Now, by hand."""
        with self._lock:
            self._start(self._find(prediction_id))

    def end(self, prediction_id: str, outcome: Outcome | None = None) -> None:
        """Now, by hand, as was said before or as is said now."""
        with self._lock:
            prediction = self._find(prediction_id)
            prediction.outcome = outcome or prediction.outcome
            self._end(prediction)

    def forget(self) -> None:
        """All of them, as Replicate does after a while."""
        with self._lock:
            self._all.clear()
            self.files.clear()

    def close(self) -> None:
        self._over.set()
        self._clock.join()

    def _find(self, prediction_id: str) -> _Prediction:
        prediction = self._all.get(prediction_id)
        if prediction is None:
            raise not_found()
        return prediction

    def _run_clock(self) -> None:
        while not self._over.wait(_TICK_SECONDS):
            with self._lock:
                now = time.monotonic()
                for prediction in self._all.values():
                    if prediction.status in _RUNNING:
                        self._move(prediction, now)

    def _move(self, prediction: _Prediction, now: float) -> None:
        if prediction.starts_at is not None and now >= prediction.starts_at:
            self._start(prediction)
        if prediction.ends_at is not None and now >= prediction.ends_at:
            self._end(prediction)

    def _start(self, prediction: _Prediction) -> None:
        match prediction.outcome:
            case Aborts() | NeverEnds(starts=False) | Fails(before_running=True):
                return
        if prediction.status == "starting":
            prediction.status, prediction.started_at = "processing", _now()
            self._tell("start", self._as_json(prediction))

    def _end(self, prediction: _Prediction) -> None:
        self._start(prediction)
        if prediction.status not in _RUNNING:
            return
        match prediction.outcome:
            case Succeeds() as outcome:
                prediction.output = self._output(prediction, outcome)
                self._close(prediction, "succeeded")
            case Fails(error=error):
                prediction.error = error
                self._close(prediction, "failed")
            case Aborts():
                self._close(prediction, "aborted")

    def _close(self, prediction: _Prediction, status: str) -> None:
        prediction.status, prediction.completed_at = status, _now()
        self._tell("completed", self._as_json(prediction))

    def _output(self, prediction: _Prediction, outcome: Succeeds) -> object:
        if outcome.output is not None:
            return outcome.output
        given = prediction.asked["input"]
        suffix = outcome.format or given.get("output_format", "jpg")
        size = outcome.size or size_of(given)
        urls = []
        for number in range(outcome.pictures):
            name = f"{number}.{suffix}"
            picture = draw(given, number, format=suffix, size=size)
            self.files[prediction.id, name] = picture
            urls.append(f"{self.url}/files/{prediction.id}/{name}")
        alone = len(urls) == 1 if outcome.as_array is None else not outcome.as_array
        return urls[0] if alone else urls

    def _as_json(self, prediction: _Prediction) -> Json:
        asked = prediction.asked
        url = f"{self.url}/v1/predictions/{prediction.id}"
        told = {key: asked[key] for key in ("webhook", "webhook_events_filter") if key in asked}
        return told | {
            "id": prediction.id,
            "model": prediction.model,
            "version": "hidden",
            "input": asked["input"],
            "logs": "",
            "output": prediction.output,
            "data_removed": False,
            "error": prediction.error,
            "status": prediction.status,
            "created_at": prediction.created_at,
            "started_at": prediction.started_at,
            "completed_at": prediction.completed_at,
            "metrics": {},
            "urls": {"get": url, "cancel": f"{url}/cancel"},
        }
