"""Whether a webhook is from the provider it says it is from, by https://www.standardwebhooks.com."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from standardwebhooks.webhooks import (
    EmptyWebhookSecretError,
    Webhook,
    WebhookVerificationError,
)

from shared.config_sections import Replicate
from shared.errors import MalformedBody, WebhookRefused

log = structlog.get_logger("promptreel.images")


def read_webhook(body: bytes, headers: Mapping[str, str], config: Replicate) -> Mapping[str, Any]:
    """The payload of a webhook of the provider, not older than five minutes.

    Raises ``WebhookRefused``, and ``MalformedBody`` for what is signed and cannot be read.
    """
    if config.webhook_secret_file is not None:
        _verify(body, headers, _secrets(config.webhook_secret_file))
    elif config.allow_unsigned_webhooks:
        log.warning("unsigned webhook accepted: images.replicate.allow_unsigned_webhooks is set")
    else:
        log.error("webhook refused: images.replicate.webhook_secret_file names no secret")
        raise WebhookRefused("no secret is configured")
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedBody("The webhook's body is not JSON.") from None
    if not isinstance(payload, dict):
        raise MalformedBody("The webhook's body is not a JSON object.")
    return payload


def _verify(body: bytes, headers: Mapping[str, str], secrets: tuple[str, ...]) -> None:
    """By any of the secrets: while one is being replaced there are two."""
    reason = "no secret can be read"
    for secret in secrets:
        try:
            # ValueError: a signature, a body or a secret that is no text at all.
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, EmptyWebhookSecretError, ValueError) as error:
            reason = str(error) or type(error).__name__
        else:
            return
    raise WebhookRefused(reason)


def _secrets(file: Path) -> tuple[str, ...]:
    """One a line, read anew for each webhook: a new one counts at once."""
    try:
        return tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    except (OSError, ValueError):
        log.exception("webhook refused: images.replicate.webhook_secret_file cannot be read")
        return ()
