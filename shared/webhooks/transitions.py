"""Every rule about how a job's webhook may change.

    waiting ──the job ends──▶ pending ──begin, answered──▶ delivered
                              ▲    ▲ │
                              │    └─┴─ begin, not answered: later again
                              │      └─ retries used up, or nobody to send it to ──▶ failed
                              └────────────── redeliver ────────────────────────────────┘

A message wakes a courier; whether it has anything to do is for these rules to say, so that a message
that comes twice, late or early tells nobody anything twice. What a courier was at when it died is sent
again: a receiver knows it by its ``webhook-id``.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from shared.errors import JobNotTerminal, WebhookNotDue, WebhookNotFound
from shared.job import Job
from shared.webhook import Webhook, WebhookAttempt, WebhookStatus

# A message that nobody has taken for this long may be lost: another one is sent.
REPUBLISH_AFTER = timedelta(hours=1)
# Of the attempts that are remembered.
_NEWEST = 20
# No receiver puts us off for longer.
_LONGEST_PAUSE = timedelta(hours=24)


def is_due(job: Job, now: datetime) -> bool:
    """Whether a message must be sent for it."""
    due_at = job.webhook.due_at if job.webhook else None
    return due_at is not None and now >= due_at


def mark_published(job: Job, *, now: datetime) -> Job:
    """A message is on its way."""
    webhook = webhook_of(job)
    if webhook.status is not WebhookStatus.PENDING or not is_due(job, now):
        return job
    return replace(job, webhook=replace(webhook, due_at=now + REPUBLISH_AFTER))


def begin(job: Job, *, now: datetime, within: timedelta) -> Job:
    """Take it for one attempt; nobody else does ``within`` this time.

    Raises ``WebhookNotDue`` if there is nothing to send, or not yet, or somebody is at it.
    """
    webhook = webhook_of(job)
    early = webhook.not_before is not None and now < webhook.not_before
    if webhook.status is not WebhookStatus.PENDING or early:
        raise WebhookNotDue(webhook.status)
    until = now + within
    taken = replace(webhook, tries=webhook.tries + 1, not_before=until, due_at=until)
    return replace(job, webhook=taken)


def put_off(job: Job, *, until: datetime) -> Job:
    """Not now: its receiver has enough of them at once. Costs no try."""
    webhook = webhook_of(job)
    if webhook.status is not WebhookStatus.PENDING:
        return job
    return replace(job, webhook=replace(webhook, not_before=until, due_at=until))


def delivered(job: Job, *, attempt: WebhookAttempt) -> Job:
    """The receiver has it, whoever else is at it meanwhile."""
    if webhook_of(job).status is not WebhookStatus.PENDING:
        return job
    return _settled(job, WebhookStatus.DELIVERED, attempt)


def not_delivered(
    job: Job,
    *,
    attempt: WebhookAttempt,
    tries: int,
    pauses: Sequence[timedelta],
    asked_for: timedelta | None,
    now: datetime,
) -> Job:
    """Send it again after the pause, a longer one if the receiver asked for it; after the last, give up.

    Nothing changes if somebody else has taken it meanwhile.
    """
    webhook = webhook_of(job)
    if webhook.status is not WebhookStatus.PENDING or webhook.tries != tries:
        return job
    if tries > len(pauses):
        return _settled(job, WebhookStatus.FAILED, attempt)
    pause = max(pauses[tries - 1], min(asked_for or timedelta(), _LONGEST_PAUSE))
    later = now + pause
    waiting = replace(
        webhook,
        not_before=later,
        due_at=later,
        attempts=_with(webhook, attempt),
    )
    return replace(job, webhook=waiting)


def give_up(job: Job, *, attempt: WebhookAttempt) -> Job:
    """There is nobody to send it to."""
    if webhook_of(job).status is not WebhookStatus.PENDING:
        return job
    return _settled(job, WebhookStatus.FAILED, attempt)


def redeliver(job: Job, *, now: datetime) -> Job:
    """Send it again, with all its retries. Raises ``JobNotTerminal``, and ``WebhookNotFound``."""
    webhook = webhook_of(job)
    if not job.status.is_terminal:
        raise JobNotTerminal(job.status)
    afresh = Webhook(status=WebhookStatus.PENDING, due_at=now, attempts=webhook.attempts)
    return replace(job, webhook=afresh)


def webhook_of(job: Job) -> Webhook:
    """Raises ``WebhookNotFound`` for a job whose owner had no endpoint when it was made."""
    if job.webhook is None:
        raise WebhookNotFound
    return job.webhook


def _settled(job: Job, status: WebhookStatus, attempt: WebhookAttempt) -> Job:
    webhook = webhook_of(job)
    settled = replace(
        webhook,
        status=status,
        not_before=None,
        due_at=None,
        attempts=_with(webhook, attempt),
    )
    return replace(job, webhook=settled)


def _with(webhook: Webhook, attempt: WebhookAttempt) -> tuple[WebhookAttempt, ...]:
    return (*webhook.attempts, attempt)[-_NEWEST:]
