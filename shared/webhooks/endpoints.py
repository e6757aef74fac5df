"""Where each owner is told: an endpoint of the configuration, else the one it has registered itself."""

import base64
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_address

from shared.config_sections import ConfiguredEndpoint, Webhooks
from shared.errors import InvalidRequest, WebhookConfigured, WebhookNotFound
from shared.job import Job
from shared.ports import JobStore
from shared.public_url import is_public, read_url
from shared.secret_file import secret_in
from shared.webhook import Webhook, WebhookEndpoint

_SECRET_BYTES = 32
_PREFIX = "whsec_"
# How long an old secret signs along with the new one: receivers have that time to change theirs.
_OVERLAP = timedelta(hours=24)


def new_secret() -> str:
    """As Standard Webhooks has it."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Time and randomness come in; every method may raise ``StoreUnavailable``."""

    config: Webhooks
    store: JobStore
    now: Callable[[], datetime]
    new_secret: Callable[[], str] = new_secret

    def of(self, owner: str) -> WebhookEndpoint:
        """Raises ``WebhookNotFound``."""
        stored = self.store.endpoint(owner)
        configured = self.config.endpoints.get(owner)
        if configured is not None:
            return self._configured(owner, configured, stored)
        if stored is None:
            raise WebhookNotFound
        return stored

    def announced(self, job: Job) -> Job:
        """A new job, with a webhook if its owner has an endpoint."""
        try:
            self.of(job.owner)
        except WebhookNotFound:
            return job
        return replace(job, webhook=Webhook())

    def register(self, owner: str, url: str) -> WebhookEndpoint:
        """Tell the owner there from now on. One that was disabled is told again, with the same secret.

        Raises ``InvalidRequest``, and ``WebhookConfigured`` where the configuration names another URL.
        """
        configured = self.config.endpoints.get(owner)
        if configured is None:
            check_url(url, self.config)
            return self.store.change_endpoint(owner, partial(self._registered, owner, url))
        if configured.url != url:
            raise WebhookConfigured
        self.store.remove_endpoint(owner)  # all that is noted there is that it was gone
        return self.of(owner)

    def remove(self, owner: str) -> None:
        """Raises ``WebhookNotFound``, and ``WebhookConfigured`` for one of the configuration."""
        self._check_it_is_its_own(owner)
        self.store.remove_endpoint(owner)

    def replace_secret(self, owner: str) -> WebhookEndpoint:
        """With another one; the old one signs too, for a day.

        Raises ``WebhookNotFound``, and ``WebhookConfigured`` for one of the configuration.
        """
        self._check_it_is_its_own(owner)
        return self.store.change_endpoint(owner, self._with_another_secret)

    def disable(self, endpoint: WebhookEndpoint) -> None:
        """Its receiver has said that it is gone. If it was changed or removed meanwhile, it stays so."""
        with suppress(WebhookNotFound):
            self.store.change_endpoint(endpoint.owner, partial(self._disabled, endpoint))

    def _registered(self, owner: str, url: str, stored: WebhookEndpoint | None) -> WebhookEndpoint:
        if stored is None:
            secret = self.new_secret()
            return WebhookEndpoint(owner=owner, url=url, secret=secret, created_at=self.now())
        return replace(stored, url=url, disabled_at=None)

    def _with_another_secret(self, stored: WebhookEndpoint | None) -> WebhookEndpoint:
        if stored is None:
            raise WebhookNotFound
        return replace(
            stored,
            secret=self.new_secret(),
            old_secret=stored.secret,
            old_secret_until=self.now() + _OVERLAP,
        )

    def _disabled(
        self, endpoint: WebhookEndpoint, stored: WebhookEndpoint | None
    ) -> WebhookEndpoint:
        if endpoint.owner in self.config.endpoints:
            # No more than a note: its secret stays where it is.
            return replace(endpoint, secret="", disabled_at=self.now())
        if stored is None:
            raise WebhookNotFound
        if stored.url != endpoint.url:
            return stored
        return replace(stored, disabled_at=stored.disabled_at or self.now())

    def _configured(
        self, owner: str, configured: ConfiguredEndpoint, stored: WebhookEndpoint | None
    ) -> WebhookEndpoint:
        noted = stored if stored is not None and stored.url == configured.url else None
        return WebhookEndpoint(
            owner=owner,
            url=configured.url,
            secret=secret_in(configured.secret_file) or "",
            disabled_at=noted.disabled_at if noted else None,
        )

    def _check_it_is_its_own(self, owner: str) -> None:
        if owner in self.config.endpoints:
            raise WebhookConfigured
        if self.store.endpoint(owner) is None:
            raise WebhookNotFound


def check_url(url: str, config: Webhooks) -> None:
    """Raises ``InvalidRequest`` for one that is never called; its name is judged when it is."""
    try:
        place = read_url(url)
    except ValueError:
        raise _refused("must be a plain URL of at most 8192 characters") from None
    if config.allow_private_addresses:
        return
    if place.scheme != "https":
        raise _refused("must begin with https://")
    try:
        ip_address(place.host)
    except ValueError:
        return
    if not is_public(place.host):
        raise _refused("leads to an address that is not public")


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"`url` {why}.", field="url")
