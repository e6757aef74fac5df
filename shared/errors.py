"""Every error Promptreel raises on purpose.

PromptreelError
├── RequesterError                 the caller can mend it; the same request will fail again
│   ├── InvalidRequest
│   │   ├── MalformedBody
│   │   ├── UnsupportedContentType
│   │   └── BodyTooLarge
│   ├── BodyTooSlow
│   ├── Unauthenticated
│   ├── ScopeMissing
│   ├── KeyUnknown
│   ├── TooManyRequests            a limit is reached; the same request may succeed later
│   ├── UntrustedCaller
│   ├── JobNotFound
│   ├── IdempotencyConflict
│   ├── JobAlreadyTerminal
│   ├── JobNotTerminal
│   ├── ArtifactNotReady
│   ├── ArtifactExpired
│   ├── LinkTampered
│   ├── PromptRefused
│   ├── WebhookRefused
│   ├── WebhookNotFound
│   ├── WebhookConfigured
│   └── TooManyJobs                a limit is reached; the same request may succeed later
│       ├── QueueFull
│       ├── TooManyInFlight
│       ├── RateExceeded
│       └── MonthlyLimitReached
├── OperatorError                  whoever runs the installation can mend it
│   ├── ConfigurationError
│   ├── ModelUnavailable
│   ├── ImagesNotOffered
│   ├── OutputRefused
│   └── UnreadableMessage
├── TransientError                 nobody's fault; the same request may succeed later
│   ├── StoreUnavailable
│   ├── QueueUnavailable
│   ├── ArtifactStoreUnavailable
│   ├── BackendUnavailable
│   ├── ProviderSilent
│   ├── CertificatesUnavailable
│   ├── KeysUnavailable
│   ├── RenderCrashed
│   └── RenderTimedOut
└── LeaseError                     not a failure: this process has no right to the job
    ├── LeaseHeld
    ├── LeaseLost
    ├── OtherWorkersJob
    └── WebhookNotDue

Messages are shown to callers and written to logs: they never hold a prompt, a secret, or a path
(``ConfigurationError`` and ``ModelUnavailable`` name paths; they are for the operator's terminal).
"""

from enum import StrEnum
from pathlib import Path
from typing import ClassVar


class Fault(StrEnum):
    """Whose error it is."""

    REQUESTER = "requester"
    OPERATOR = "operator"
    NOBODY = "nobody"


class PromptreelError(Exception):
    """The root. ``code`` is stable and machine-readable; the message says what to do."""

    code: ClassVar[str] = "internal_error"
    fault: ClassVar[Fault] = Fault.OPERATOR
    retry: ClassVar[bool] = False

    @property
    def message(self) -> str:
        return str(self)


# --- the requester's


class RequesterError(PromptreelError):
    code = "bad_request"
    fault = Fault.REQUESTER


class InvalidRequest(RequesterError):
    """A field is missing, wrong or unknown."""

    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class MalformedBody(InvalidRequest):
    code = "malformed_body"


class UnsupportedContentType(InvalidRequest):
    code = "unsupported_content_type"


class BodyTooLarge(InvalidRequest):
    code = "body_too_large"


class BodyTooSlow(RequesterError):
    code = "body_too_slow"

    def __init__(self) -> None:
        super().__init__("The body came too slowly, or not to its end. Send it again, at once.")


class Unauthenticated(RequesterError):
    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("Send a valid API key: `Authorization: Bearer <key>`.")


class ScopeMissing(RequesterError):
    """A good key, for other things."""

    code = "scope_missing"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This key has not the scope `{scope}`. Use one that has.")


class KeyUnknown(RequesterError):
    code = "key_unknown"

    def __init__(self) -> None:
        super().__init__(
            "There is no key with this id. `promptreel keys list` shows those there are."
        )


class TooManyRequests(RequesterError):
    """After ``retry_after_seconds`` the same request is worth another try."""

    code = "too_many_requests"
    retry = True

    def __init__(self, *, retry_after_seconds: int) -> None:
        super().__init__(f"Too many requests. Try again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


class UntrustedCaller(RequesterError):
    """Not the Google service account that may call this address."""

    code = "untrusted_caller"

    def __init__(self, reason: str) -> None:
        super().__init__("Call with an OIDC token of the service account that is configured here.")
        self.reason = reason  # for the log: it would help who tries


class JobNotFound(RequesterError):
    """Unknown, or another owner's: the two are told apart to nobody."""

    code = "job_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such job. Check the id; a job is visible to its owner only.")


class IdempotencyConflict(RequesterError):
    code = "idempotency_conflict"

    def __init__(self, reason: str = "This Idempotency-Key was used with another request.") -> None:
        super().__init__(f"{reason} Send a new key with a new request.")


class JobAlreadyTerminal(RequesterError):
    """The job has ended; nothing can change it any more."""

    code = "job_already_terminal"

    def __init__(self, status: str) -> None:
        super().__init__(f"The job has ended ({status}) and cannot change any more.")
        self.status = status


class JobNotTerminal(RequesterError):
    """Only a job that has ended can be changed this way."""

    code = "job_not_terminal"

    def __init__(self, status: str) -> None:
        super().__init__(f"The job has not ended ({status}). Cancel it first, or wait.")
        self.status = status


class ArtifactNotReady(RequesterError):
    code = "artifact_not_ready"

    def __init__(self, status: str, kind: str = "video") -> None:
        what_to_do = "" if status == "finished" else " Poll the job until it is finished."
        super().__init__(f"The job has no {kind} (status: {status}).{what_to_do}")


class ArtifactExpired(RequesterError):
    """The link's time is over, or the file is past its retention."""

    code = "artifact_expired"


class LinkTampered(RequesterError):
    code = "link_tampered"

    def __init__(self) -> None:
        super().__init__("The link's signature is not valid. Ask the job for a new link.")


class PromptRefused(RequesterError):
    """The model or its provider refused the prompt."""

    code = "prompt_refused"


class WebhookRefused(RequesterError):
    """Not signed by the provider that it says it is from, or too long ago."""

    code = "webhook_refused"

    def __init__(self, reason: str) -> None:
        super().__init__("The webhook is not signed as it must be, or its time is over.")
        self.reason = reason  # for the log: it would help who tries


class WebhookNotFound(RequesterError):
    """No endpoint is registered; or the job's owner had none when it was made."""

    code = "webhook_not_found"

    def __init__(self) -> None:
        super().__init__(
            "No endpoint is registered for webhooks, or none was when the job was submitted: "
            "`PUT /v1/webhook` registers one."
        )


class WebhookConfigured(RequesterError):
    """The owner's endpoint stands in the configuration, which no request changes."""

    code = "webhook_configured"

    def __init__(self) -> None:
        super().__init__(
            "Your endpoint is set in the configuration of this installation, and changed there."
        )


class TooManyJobs(RequesterError):
    """A limit is reached. After ``retry_after_seconds`` the same request is worth another try."""

    code = "too_many_jobs"
    retry = True

    def __init__(self, reason: str, *, retry_after_seconds: int) -> None:
        super().__init__(f"{reason} Try again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


class QueueFull(TooManyJobs):
    """Too many jobs wait: the model's, or the owner's."""

    code = "queue_full"


class TooManyInFlight(TooManyJobs):
    """Too many of the owner's jobs have not ended."""

    code = "too_many_in_flight"


class RateExceeded(TooManyJobs):
    """The owner submits too fast."""

    code = "rate_exceeded"


class MonthlyLimitReached(TooManyJobs):
    """The owner's plan has no more for this month."""

    code = "monthly_limit_reached"

    def __init__(self, limit: int, *, retry_after_seconds: int) -> None:
        RequesterError.__init__(
            self,
            f"At most {limit} images a month are in your plan. More come with the next month.",
        )
        self.retry_after_seconds = retry_after_seconds


# --- the operator's


class OperatorError(PromptreelError):
    code = "operator_error"


# What a process exits with that cannot start: starting it again would only fail again.
EXIT_CONFIGURATION = 2


class ConfigurationError(OperatorError):
    """The configuration file cannot be used: which file, which keys, why."""

    code = "configuration_error"

    def __init__(self, file: Path | None, problems: list[tuple[str, str]]) -> None:
        self.file = file
        self.problems = problems
        where = str(file) if file else "the configuration"
        lines = [f"{key}: {reason}" if key else reason for key, reason in problems]
        super().__init__(f"{where} cannot be used:\n" + "\n".join(f"  {line}" for line in lines))


class ModelUnavailable(OperatorError):
    """The model's files are missing or cannot be loaded; the message says how to get them."""

    code = "model_unavailable"


class ImagesNotOffered(OperatorError):
    """No provider of pictures is set up."""

    code = "images_not_offered"

    def __init__(self) -> None:
        super().__init__("This installation makes no images: no provider is set up for them here.")


class OutputRefused(OperatorError):
    """What a provider has made is where we may not fetch it, or is more than we take."""

    code = "output_refused"


class UnreadableMessage(OperatorError):
    """A queue message that is not ours, or broken."""

    code = "unreadable_message"


# --- nobody's


class TransientError(PromptreelError):
    code = "unavailable"
    fault = Fault.NOBODY
    retry = True


class StoreUnavailable(TransientError):
    code = "store_unavailable"


class QueueUnavailable(TransientError):
    code = "queue_unavailable"


class ArtifactStoreUnavailable(TransientError):
    code = "artifact_store_unavailable"


class BackendUnavailable(TransientError):
    code = "backend_unavailable"


class ProviderSilent(TransientError):
    """An order was sent to a provider and no answer came: it may run, or not."""

    code = "provider_silent"


class CertificatesUnavailable(TransientError):
    """Without Google's certificates nobody can tell who is calling."""

    code = "certificates_unavailable"


class KeysUnavailable(TransientError):
    """The API keys cannot be read, or not be changed, at the moment."""

    code = "keys_unavailable"


class RenderCrashed(TransientError):
    """The render process died, or raised what it should not."""

    code = "render_crashed"


class RenderTimedOut(TransientError):
    code = "render_timed_out"


# --- no right to the job


class LeaseError(PromptreelError):
    code = "lease_error"
    fault = Fault.NOBODY


class LeaseHeld(LeaseError):
    """Another worker holds a live lease: leave the job to it."""

    code = "lease_held"


class LeaseLost(LeaseError):
    """The claim token is no longer the job's: whatever this worker made is not the result."""

    code = "lease_lost"


class OtherWorkersJob(LeaseError):
    """The job has moved to another topic, whose workers know of it: the message is an old one."""

    code = "other_workers_job"


class WebhookNotDue(LeaseError):
    """There is nothing to send, or not yet, or another courier is at it: leave it alone."""

    code = "webhook_not_due"

    def __init__(self, status: str) -> None:
        super().__init__(f"the webhook is not to be sent now ({status})")
