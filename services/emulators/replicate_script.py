"""What the next requests to our Replicate meet, how its predictions end, and what was asked of it."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flask import Response, jsonify

from services.emulators.replicate_errors import Problem

Call = Literal["create", "read", "cancel", "file"]
PictureFormat = Literal["jpg", "png", "webp"]
_Answer = Callable[[], Response]

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, as it came."""

    call: Call
    path: str
    body: Any  # parsed; None: there was none
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one prediction goes on, and when; None: as the server was told for all of them."""

    polls: int | None = None  # so often it is asked for before it ends
    seconds: float | None = None  # or this long


@dataclass(frozen=True, kw_only=True)
class Succeeds(Outcome):
    """With pictures of the server's own, or with whatever else it should say."""

    pictures: int = 1
    as_array: bool | None = None  # None: one picture is a string, several are an array
    format: PictureFormat | None = None  # None: as was asked for
    size: tuple[int, int] | None = None  # None: as was asked for
    output: Any = None  # said instead: a URL of elsewhere, an array of them, no URL at all


@dataclass(frozen=True)
class Fails(Outcome):
    """While it runs, or before that."""

    error: str = "It was told to fail."
    before_running: bool = False


@dataclass(frozen=True, kw_only=True)
class NeverEnds(Outcome):
    """Unless it is canceled."""

    starts: bool = True


@dataclass(frozen=True, kw_only=True)
class Aborts(Outcome):
    """Before it runs, and with a word that Replicate's client does not know."""


class Script:
    """Each line of it befalls one request of a call, in the order they were written."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._coming: list[tuple[Call, Callable[[_Answer], Response]]] = []
        self._outcomes: list[Outcome] = []

    @property
    def pending(self) -> int:
        """How much has not happened yet."""
        return len(self._coming) + len(self._outcomes)

    def next(self, outcome: Outcome, *, count: int = 1) -> None:
        """How the prediction ends that is created next; without a line it succeeds."""
        self._outcomes += [outcome] * count

    def fail(
        self,
        call: Call,
        http: int,
        *,
        count: int = 1,
        detail: str = "It was told to fail.",
        retry_after: str | None = None,
    ) -> None:
        """Answer with a problem; nothing is done."""

        def answer(_rest: _Answer) -> Response:
            reply = Problem(http, detail).as_json()
            if retry_after is not None:
                reply.headers["Retry-After"] = retry_after
            return reply

        self._coming += [(call, answer)] * count

    def say(self, call: Call, body: object, *, http: int = 200, count: int = 1) -> None:
        """Do what was asked, and answer with this JSON instead."""

        def answer(rest: _Answer) -> Response:
            rest()
            reply = jsonify(body)
            reply.status_code = http
            return reply

        self._coming += [(call, answer)] * count

    def babble(self, call: Call, *, count: int = 1) -> None:
        """Do what was asked, and answer with half of a JSON."""

        def answer(rest: _Answer) -> Response:
            half = json.dumps(rest().get_json(silent=True) or {"id": "a"})[:-1]
            return Response(half, status=200, mimetype="application/json")

        self._coming += [(call, answer)] * count

    def hang_up(self, call: Call, *, after: bool = True, count: int = 1) -> None:
        """Close the connection instead of an answer, having done what was asked, or not."""

        def answer(rest: _Answer) -> Response:
            if after:
                rest()
            raise ConnectionResetError

        self._coming += [(call, answer)] * count

    def delay(self, call: Call, seconds: float, *, count: int = 1) -> None:
        """Do what was asked, and answer so much later."""

        def answer(rest: _Answer) -> Response:
            reply = rest()
            self._over.wait(seconds)
            return reply

        self._coming += [(call, answer)] * count

    def redirect(self, call: Call, to: str, *, http: int = 302) -> None:
        """Send whoever asks elsewhere."""
        self._coming.append((call, lambda _: Response(status=http, headers={"Location": to})))

    def send(self, content: bytes, *, count: int = 1, **headers: str) -> None:
        """The next file is this one; an underscore in a header's name is a hyphen.

        Its length is what a header says it is: more of it than there is is a connection cut.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named = {"Content-Length": str(len(content))} | named
        # Of a whole content, Flask would mend the length.
        self._coming += [("file", lambda _: Response(iter([content]), headers=named))] * count

    def pour(self, size_bytes: int, *, announced: bool, count: int = 1) -> None:
        """The next file is zeros, made while they are sent; its length is said before, or not."""

        def zeros() -> Iterator[bytes]:
            for start in range(0, size_bytes, _CHUNK_BYTES):
                yield bytes(min(_CHUNK_BYTES, size_bytes - start))

        headers = {"Content-Length": str(size_bytes)} if announced else {}
        self._coming += [("file", lambda _: Response(zeros(), headers=headers))] * count

    def trickle(self, *, pause_seconds: float, count: int = 1) -> None:
        """The next file comes byte by byte."""

        def answer(rest: _Answer) -> Response:
            content = rest().get_data()
            return Response(self._slowly(content, pause_seconds))

        self._coming += [("file", answer)] * count

    def _slowly(self, content: bytes, pause_seconds: float) -> Iterator[bytes]:
        for byte in content:
            if self._over.wait(pause_seconds):
                return
            yield bytes([byte])

    def meet(self, asked: Asked, rest: _Answer) -> Response:
        """Called by the server: the answer to a request, where ``rest`` is what it does by itself."""
        with self._lock:
            self.asked.append(asked)
            line = next((line for line in self._coming if line[0] == asked.call), None)
            if line is not None:
                self._coming.remove(line)
        return rest() if line is None else line[1](rest)

    def take_outcome(self) -> Outcome:
        """Called by the server, once a created prediction."""
        with self._lock:
            return self._outcomes.pop(0) if self._outcomes else Succeeds()

    def end(self) -> None:
        """Called by the server: whoever waits need not any more."""
        self._over.set()
