"""What an owner is told when a job has ended, and where: plain data.

How a webhook may change is in ``shared/webhooks/transitions.py``.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class WebhookStatus(StrEnum):
    WAITING = "waiting"  # the job has not ended
    PENDING = "pending"  # to be sent, or sent again
    DELIVERED = "delivered"  # the receiver has said so
    FAILED = "failed"  # given up: all retries are used up, or there is nobody to send it to


@dataclass(frozen=True, kw_only=True)
class WebhookAttempt:
    """One request to a receiver, and what came of it."""

    at: datetime
    seconds: float
    status: int | None  # of HTTP; None: there was no answer
    error: str | None = None  # why there was none, or why this one does not count


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """The webhook that tells of a job's end. The job has one if its owner had an endpoint at admission."""

    status: WebhookStatus = WebhookStatus.WAITING
    tries: int = 0  # since the job ended, or since somebody asked to have it sent again
    not_before: datetime | None = (
        None  # of the next attempt; while one is under way, of anybody else's
    )
    due_at: datetime | None = None  # when the sweep must send a message of its own
    attempts: tuple[WebhookAttempt, ...] = ()  # the newest of them


@dataclass(frozen=True, kw_only=True)
class WebhookEndpoint:
    """Where an owner is told. Its ``repr`` is safe to log."""

    owner: str
    url: str = field(repr=False)  # it may hold a secret
    secret: str = field(repr=False)  # "whsec_" and base64, by Standard Webhooks
    created_at: datetime | None = None  # None: it stands in the configuration
    old_secret: str | None = field(
        default=None, repr=False
    )  # signs too, while it is being replaced
    old_secret_until: datetime | None = None
    disabled_at: datetime | None = None  # its receiver has said that it is gone

    def secrets(self, now: datetime) -> tuple[str, ...]:
        """Those to sign with, the newest first."""
        if self.old_secret is None or self.old_secret_until is None or now >= self.old_secret_until:
            return (self.secret,)
        return (self.secret, self.old_secret)
