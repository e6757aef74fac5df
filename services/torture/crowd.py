"""The clients: they submit, poll, cancel and download, and never give up on an answer."""

import hashlib
import random
import threading
import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

import httpx

from services.torture.history import (
    Accepted,
    CancelAnswered,
    CancelAsked,
    CreateAsked,
    Fetched,
    History,
    Seen,
    Unexpected,
    now,
)

_TIMEOUT_SECONDS = 4.0
_PAUSE_SECONDS = 0.15
_IN_FLIGHT_EACH = 2
# Of its jobs, how many a client cancels, and after how long on average: in the calm most of them, and
# soon, so that there is something to measure.
_CANCEL_SHARE, _CANCEL_SHARE_IN_CALM = 0.25, 0.7
_PATIENCE_SECONDS_MEAN, _PATIENCE_SECONDS_MEAN_IN_CALM = 1.0, 0.3
_TWICE_SHARE = 0.1
_TERMINAL = ("finished", "failed", "canceled")
# What a server that is being hurt may answer; everything else it must get right.
_EXCUSED = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)


class Manner(StrEnum):
    """How a render behaves; the first word of its prompt."""

    STEADY = "steady"
    SLOW = "slow"  # long enough to be canceled in its middle
    DEAF = "deaf"  # hears no cancel, ends by SIGTERM
    STUBBORN = "stubborn"  # ends by SIGKILL only
    STUMBLE = "stumble"  # dies every other time
    CRASH = "crash"  # dies every time
    GLUTTON = "glutton"  # eats all memory it can get
    REFUSED = "refused"  # the model refuses the prompt


_WEIGHTS = {
    Manner.STEADY: 60,
    Manner.SLOW: 20,
    Manner.DEAF: 4,
    Manner.STUBBORN: 3,
    Manner.STUMBLE: 8,
    Manner.CRASH: 3,
    Manner.GLUTTON: 3,
    Manner.REFUSED: 5,
}


@dataclass(frozen=True, kw_only=True)
class _Patience:
    """When a client no longer wants its job."""

    until_it_runs: bool  # counted from when it is seen to run, not from its acceptance
    seconds: float


@dataclass
class _Open:
    """A job that a client still waits for."""

    job_id: str
    patience: _Patience | None
    since: float
    status: str = "queued"

    def is_unwanted(self) -> bool:
        if self.patience is None or (self.patience.until_it_runs and self.status == "queued"):
            return False
        return now() - self.since >= self.patience.seconds


class Client(threading.Thread):
    """One client with a few jobs in flight; it ends once it was told to and has seen all of them end."""

    def __init__(
        self, url: str, key: str, history: History, *, dice: random.Random, real_renders: bool
    ) -> None:
        super().__init__(name="client", daemon=True)
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_SECONDS,
        )
        self._history = history
        self._dice = dice
        self._manners = [Manner.STEADY] if real_renders else list(_WEIGHTS)
        self._submitting = threading.Event()
        self._submitting.set()
        self._leaving = threading.Event()
        self._calm = threading.Event()
        self._calm.set()
        self._open: list[_Open] = []

    def end_calm(self) -> None:
        self._calm.clear()

    def submit_no_more(self) -> None:
        self._submitting.clear()

    def leave(self) -> None:
        """Now, whatever has not ended."""
        self._leaving.set()

    def run(self) -> None:
        while not self._leaving.is_set() and (self._submitting.is_set() or self._open):
            if self._submitting.is_set() and len(self._open) < _IN_FLIGHT_EACH:
                self._submit()
            for job in [*self._open]:
                self._look_at(job)
            time.sleep(self._dice.uniform(0, 2 * _PAUSE_SECONDS))

    def _submit(self) -> None:
        manner = self._dice.choices(self._manners, [_WEIGHTS[each] for each in self._manners])[0]
        key = str(uuid.UUID(int=self._dice.getrandbits(128)))
        patience = self._draw_patience()
        body = {"prompt": f"{manner} clip {key}"}
        if self._dice.random() < _TWICE_SHARE:  # an impatient client: the same request at once
            threading.Thread(target=self._create, args=(key, body, manner), daemon=True).start()
        job_id = self._create(key, body, manner)
        if job_id is not None:
            self._open.append(_Open(job_id, patience, since=now()))

    def _draw_patience(self) -> _Patience | None:
        share, mean_seconds = _CANCEL_SHARE, _PATIENCE_SECONDS_MEAN
        if self._calm.is_set():
            share, mean_seconds = _CANCEL_SHARE_IN_CALM, _PATIENCE_SECONDS_MEAN_IN_CALM
        if self._dice.random() >= share:
            return None
        return _Patience(
            until_it_runs=self._calm.is_set() or self._dice.choice((True, False)),
            seconds=self._dice.expovariate(1 / mean_seconds),
        )

    def _create(self, key: str, body: dict[str, str], manner: Manner) -> str | None:
        """Repeat the request with its key until it is answered."""
        self._history.add(CreateAsked(at=now(), key=key))
        while not self._leaving.is_set():
            reply = self._ask("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key})
            if reply is None:
                continue
            if reply.status_code != HTTPStatus.ACCEPTED:
                self._wonder("create", reply)
                return None
            job_id = str(reply.json()["id"])
            self._history.add(Accepted(at=now(), key=key, job_id=job_id, manner=manner))
            return job_id
        return None

    def _look_at(self, job: _Open) -> None:
        reply = self._ask("GET", f"/v1/jobs/{job.job_id}")
        if reply is None:
            return
        if reply.status_code != HTTPStatus.OK:
            self._wonder("poll", reply)
            self._open.remove(job)
            return
        view = reply.json()
        if job.status == "queued" and view["status"] != "queued":
            job.since = now()
        job.status = view["status"]
        self._history.add(
            Seen(at=now(), job_id=job.job_id, status=job.status, progress=view["progress"])
        )
        if job.status in _TERMINAL:
            self._open.remove(job)
            if job.status == "finished":
                self._fetch(job.job_id)
        elif job.is_unwanted():
            self._cancel(job)

    def _cancel(self, job: _Open) -> None:
        asked_at = now()
        self._history.add(CancelAsked(at=asked_at, job_id=job.job_id))
        reply = self._ask("POST", f"/v1/jobs/{job.job_id}/cancel")
        if reply is None:
            return  # asked again at the next look
        job.patience = None
        if reply.status_code not in (HTTPStatus.OK, HTTPStatus.CONFLICT):
            self._wonder("cancel", reply)
            return
        self._history.add(
            CancelAnswered(
                at=now(),
                job_id=job.job_id,
                asked_at=asked_at,
                status_before=job.status,
                code=reply.status_code,
            )
        )

    def _fetch(self, job_id: str) -> None:
        """Follow the link as a caller would. A fault on the way only means that it is not looked at."""
        link = self._ask("GET", f"/v1/jobs/{job_id}/artifact")
        if link is None:
            return
        if link.status_code != HTTPStatus.OK:
            self._wonder("link", link)
            return
        try:
            video = httpx.get(link.json()["url"], timeout=_TIMEOUT_SECONDS)
        except httpx.HTTPError:
            return
        if video.status_code in _EXCUSED:
            return
        if video.status_code != HTTPStatus.OK:
            self._wonder("download", video)
            return
        self._history.add(
            Fetched(
                at=now(),
                job_id=job_id,
                sha256=hashlib.sha256(video.content).hexdigest(),
                begins_with=video.content[:100].decode(errors="replace"),
            )
        )

    def _ask(self, method: str, path: str, **more: object) -> httpx.Response | None:
        """None when nobody answered, or the answer was that nobody can, for now."""
        try:
            reply = self._http.request(method, path, **more)  # type: ignore[arg-type]  # json, headers
        except httpx.HTTPError:
            time.sleep(_PAUSE_SECONDS)
            return None
        if reply.status_code in _EXCUSED:
            time.sleep(_PAUSE_SECONDS)
            return None
        return reply

    def _wonder(self, operation: str, reply: httpx.Response) -> None:
        self._history.add(
            Unexpected(at=now(), operation=operation, code=reply.status_code, body=reply.text[:300])
        )
