"""Who tells owners that their jobs have ended: one message, one attempt."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from threading import Lock

import structlog
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from shared.config_sections import Webhooks
from shared.errors import JobNotFound, WebhookNotDue, WebhookNotFound
from shared.job import Job
from shared.ports import JobStore
from shared.webhook import WebhookAttempt, WebhookEndpoint, WebhookStatus
from shared.webhooks import transitions as rules
from shared.webhooks.endpoints import Endpoints
from shared.webhooks.events import event_body, event_id
from shared.webhooks.sender import Answer, NoAnswer, Sender

# What an attempt may take beside the request: a slow name server, two slow writes to the store.
_MARGIN = timedelta(seconds=15)
# Until somebody comes back whose receiver had enough to do.
_BUSY_PAUSE = timedelta(seconds=10)

log = structlog.get_logger("promptreel.webhooks")


class _Places:
    """How many requests each owner's receiver has at once, from this process."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def one_of(self, owner: str, limit: int) -> Iterator[bool]:
        """Whether there was one."""
        with self._lock:
            free = self._taken[owner] < limit
            self._taken[owner] += free
        try:
            yield free
        finally:
            with self._lock:
                self._taken[owner] -= free
                if not self._taken[owner]:
                    del self._taken[owner]


@dataclass(frozen=True, kw_only=True)
class Courier:
    """Safe to call from many threads. Any number of couriers may be at work, and be killed."""

    config: Webhooks
    store: JobStore
    sender: Sender
    now: Callable[[], datetime]
    clock: Callable[[], float] = time.monotonic
    _places: _Places = field(default_factory=_Places)

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(config=self.config, store=self.store, now=self.now)

    def deliver(self, job_id: str) -> None:
        """Send the job's webhook, if that is to be done now, and remember what came of it.

        Raises ``StoreUnavailable``: the message is to be delivered again.
        """
        try:
            owner = self.store.get(job_id).owner
            with self._places.one_of(owner, self.config.at_once_per_owner) as free:
                if free:
                    self._attempt(self._begin(job_id))
                else:
                    self.store.update(
                        job_id, partial(rules.put_off, until=self.now() + _BUSY_PAUSE)
                    )
        except (JobNotFound, WebhookNotFound, WebhookNotDue):
            return  # An old message: it has been seen to, or will be by a newer one.

    def _begin(self, job_id: str) -> Job:
        within = timedelta(seconds=self.config.request_seconds) + _MARGIN
        return self.store.update(job_id, partial(rules.begin, now=self.now(), within=within))

    def _attempt(self, job: Job) -> None:
        at = self.now()
        try:
            endpoint = self.endpoints.of(job.owner)
        except WebhookNotFound:
            self._give_up(job, at, "There is no endpoint any more.")
            return
        if endpoint.disabled_at is not None:
            self._give_up(job, at, "The endpoint is disabled: its receiver said that it is gone.")
            return
        started = self.clock()
        answer, error = self._send(job, endpoint, at)
        attempt = WebhookAttempt(
            at=at,
            seconds=round(self.clock() - started, 3),
            status=answer.status if answer else None,
            error=error,
        )
        if answer is not None and error is None:
            self._remember(job, partial(rules.delivered, attempt=attempt), attempt)
        elif answer is not None and answer.status == HTTPStatus.GONE:
            self.endpoints.disable(endpoint)
            self._remember(job, partial(rules.give_up, attempt=attempt), attempt)
        else:
            self._try_later(job, attempt, answer)

    def _send(
        self, job: Job, endpoint: WebhookEndpoint, at: datetime
    ) -> tuple[Answer | None, str | None]:
        """The answer, if there was one, and why it does not count, if it does not."""
        body = event_body(job)
        try:
            headers = signed_headers(endpoint, event_id(job), body, at)
        except (EmptyWebhookSecretError, ValueError):
            log.error("webhook not signed: webhooks.endpoints names no usable secret_file")  # noqa: TRY400
            return None, "The installation has no secret to sign with."
        try:
            answer = self.sender.post(endpoint.url, headers=headers, body=body)
        except NoAnswer as error:
            return None, str(error)
        return answer, _why_it_does_not_count(answer)

    def _try_later(self, job: Job, attempt: WebhookAttempt, answer: Answer | None) -> None:
        rule = partial(
            rules.not_delivered,
            attempt=attempt,
            tries=rules.webhook_of(job).tries,
            pauses=[timedelta(seconds=pause) for pause in self.config.retry_seconds],
            asked_for=answer.retry_after if answer else None,
            now=self.now(),
        )
        self._remember(job, rule, attempt)

    def _give_up(self, job: Job, at: datetime, why: str) -> None:
        attempt = WebhookAttempt(at=at, seconds=0, status=None, error=why)
        self._remember(job, partial(rules.give_up, attempt=attempt), attempt)

    def _remember(self, job: Job, rule: Callable[[Job], Job], attempt: WebhookAttempt) -> None:
        webhook = rules.webhook_of(self.store.update(job.id, rule))
        tell = log.warning if webhook.status is WebhookStatus.FAILED else log.info
        tell(
            "webhook tried",
            job_id=job.id,
            request_id=job.request_id,
            outcome=webhook.status.value,
            tries=webhook.tries,
            status=attempt.status,
            seconds=attempt.seconds,
            reason=attempt.error,
        )


def signed_headers(
    endpoint: WebhookEndpoint, message_id: str, body: bytes, at: datetime
) -> dict[str, str]:
    """The headers of Standard Webhooks, signed with each of the endpoint's secrets.

    Raises ``ValueError`` or ``EmptyWebhookSecretError`` for a secret that is none.
    """
    signatures = [
        Webhook(secret).sign(message_id, at, body.decode()) for secret in endpoint.secrets(at)
    ]
    return {
        "Content-Type": "application/json",
        "User-Agent": "Promptreel",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _why_it_does_not_count(answer: Answer) -> str | None:
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    if status == HTTPStatus.GONE:
        return "The receiver said that it is gone: the endpoint is disabled."
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return "Redirects are not followed."
    return "The receiver did not accept it."
