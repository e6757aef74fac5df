"""Replicate's webhooks: signed as it signs them, sent again where nobody answers, or sent by hand."""

import json
import secrets
import threading
import zlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks import Webhook

_LANES = 8
_TRIES = 4
_PAUSE_SECONDS = 0.05
_ANSWER_SECONDS = 10.0
_SERVER_ERROR = 500
_NO_ANSWER = 0


@dataclass(frozen=True)
class Letter:
    """One event of one prediction; its id is the same however often it is sent."""

    id: str
    prediction_id: str
    event: str
    url: str
    body: bytes


@dataclass(frozen=True)
class Sent:
    """One try, and the status it was answered with; 0: no answer."""

    letter: Letter
    status: int


class Webhooks:
    """Those of one prediction are sent one after the other, in a thread that ends with ``close``."""

    def __init__(self, secret: str, *, by_themselves: bool) -> None:
        self.by_themselves = by_themselves  # False: only those that are sent by hand
        self.sent: list[Sent] = []
        self._secret = secret
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._letters: dict[tuple[str, str], Letter] = {}
        self._pending: list[Future[None]] = []
        self._http = httpx.Client(timeout=_ANSWER_SECONDS, trust_env=False)
        self._lanes = [ThreadPoolExecutor(max_workers=1) for _ in range(_LANES)]

    def tell(self, event: str, prediction: Mapping[str, Any]) -> None:
        """Called by the server: something happened that whoever ordered may want to know."""
        letter = self._write(event, prediction)
        wanted = prediction.get("webhook_events_filter") or ("start", "completed")
        if not letter.url or event not in wanted or not self.by_themselves:
            return
        lane = self._lanes[zlib.crc32(letter.prediction_id.encode()) % _LANES]
        with self._lock:
            if not self._over.is_set():
                self._pending.append(lane.submit(self._send_until_taken, letter))

    def letter(self, event: str, prediction: Mapping[str, Any]) -> Letter:
        """As it was written when it happened; else as the prediction stands now."""
        kept = self._letters.get((prediction["id"], event))
        return kept or self._write(event, prediction)

    def send(
        self,
        letter: Letter,
        *,
        signed_at: datetime | None = None,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Once, and the status; ``headers`` come instead of those that are right."""
        moment = (signed_at or datetime.now(UTC)).astimezone(UTC)
        signer = Webhook(secret or self._secret)
        right = {
            "Content-Type": "application/json",
            "webhook-id": letter.id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": signer.sign(letter.id, moment, letter.body.decode()),
        }
        try:
            reply = self._http.post(
                letter.url, content=letter.body, headers=right | dict(headers or {})
            )
            status = reply.status_code
        except httpx.HTTPError:
            status = _NO_ANSWER
        self.sent.append(Sent(letter, status))
        return status

    def wait(self, seconds: float = 10) -> None:
        """Until all that are sent by themselves have been; raises ``TimeoutError``."""
        with self._lock:
            pending, self._pending = self._pending, []
        for future in pending:
            future.result(seconds)

    def close(self) -> None:
        with self._lock:
            self._over.set()
        for lane in self._lanes:
            lane.shutdown(cancel_futures=True)
        self._http.close()

    def _write(self, event: str, prediction: Mapping[str, Any]) -> Letter:
        kept = self._letters.get((prediction["id"], event))
        letter = Letter(
            id=kept.id if kept else f"msg_{secrets.token_hex(12)}",
            prediction_id=prediction["id"],
            event=event,
            url=prediction.get("webhook", ""),
            body=json.dumps(prediction).encode(),
        )
        self._letters[letter.prediction_id, event] = letter
        return letter

    def _send_until_taken(self, letter: Letter) -> None:
        for attempt in range(1, _TRIES + 1):
            status = self.send(letter)
            if _NO_ANSWER < status < _SERVER_ERROR or self._over.wait(_PAUSE_SECONDS * attempt):
                return
