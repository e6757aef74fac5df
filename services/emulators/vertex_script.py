"""What the next requests to our Vertex AI meet, and what was asked of it."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flask import Response, jsonify

from services.emulators.vertex_errors import VertexError

Call = Literal["predictLongRunning", "fetchPredictOperation", "generateContent"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, as it came."""

    call: Call
    model: str
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Filtered:
    """A clip that the filter keeps back, with Google's reasons or without a word."""

    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """An operation that ends with an error; the code is gRPC's."""

    code: int
    message: str = "An internal error."


Outcome = Filtered | Failed


class Script:
    """Each line of it befalls one request of a call, in the order they were written."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._coming: list[tuple[Call, Callable[[], Response | None]]] = []
        self._outcomes: list[Outcome] = []

    @property
    def pending(self) -> int:
        """How much has not happened yet."""
        return len(self._coming) + len(self._outcomes)

    def fail(
        self,
        call: Call,
        http: int,
        status: str = "",
        *,
        count: int = 1,
        message: str = "It was told to fail.",
        reason: str | None = None,
        retry_after: str | None = None,
        retry_delay: str | None = None,
    ) -> None:
        """Answer with an error as Google words it; when to come back is in a header or in its body."""
        error = VertexError(http, status, message, reason=reason, retry_delay=retry_delay)

        def answer() -> Response:
            reply = error.as_json()
            if retry_after is not None:
                reply.headers["Retry-After"] = retry_after
            return reply

        self._coming += [(call, answer)] * count

    def say(self, call: Call, body: object, *, count: int = 1) -> None:
        """Answer with this JSON, whatever was asked."""
        self._coming += [(call, lambda: jsonify(body))] * count

    def babble(self, call: Call, *, count: int = 1) -> None:
        """Answer with half of a JSON."""
        half = '{"name": "projects/'
        self._coming += [(call, lambda: Response(half, mimetype="application/json"))] * count

    def hang_up(self, call: Call, *, count: int = 1) -> None:
        """Close the connection instead of an answer."""

        def answer() -> Response:
            raise ConnectionResetError

        self._coming += [(call, answer)] * count

    def delay(self, call: Call, seconds: float) -> None:
        """Wait, then answer as ever."""
        self._coming.append((call, lambda: time.sleep(seconds)))

    def next_clip(self, outcome: Outcome) -> None:
        """How the operation ends that is submitted next."""
        self._outcomes.append(outcome)

    def next_text(self, text: str) -> None:
        """The model says this next."""
        self.say("generateContent", said({"text": text}))

    def block(self, reason: str = "PROHIBITED_CONTENT") -> None:
        """The next prompt is refused before any model sees it."""
        self.say("generateContent", {"promptFeedback": {"blockReason": reason}})

    def finish(self, reason: str) -> None:
        """The model stops next without having made anything."""
        self.say("generateContent", {"candidates": [{"finishReason": reason}]})

    def meet(self, asked: Asked) -> Response | None:
        """Called by the server: what befalls this request; None: nothing."""
        with self._lock:
            self.asked.append(asked)
            line = next((line for line in self._coming if line[0] == asked.call), None)
            if line is None:
                return None
            self._coming.remove(line)
        return line[1]()

    def take_outcome(self) -> Outcome | None:
        """Called by the server, once a submitted operation."""
        with self._lock:
            return self._outcomes.pop(0) if self._outcomes else None


def said(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of generateContent that ends as it should."""
    content = {"role": "model", "parts": list(parts)}
    return {"candidates": [{"content": content, "finishReason": "STOP"}]}
