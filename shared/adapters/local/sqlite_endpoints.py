"""The endpoints of owners' webhooks in the SQLite job store: one JSON document an owner."""

import sqlite3
from functools import cache

from pydantic import TypeAdapter

from shared.webhook import WebhookEndpoint

SCHEMA = """
CREATE TABLE IF NOT EXISTS webhook_endpoints (
    owner TEXT PRIMARY KEY,
    document TEXT NOT NULL
) STRICT;
"""

_STORE = """\
INSERT INTO webhook_endpoints (owner, document) VALUES (?, ?)
ON CONFLICT (owner) DO UPDATE SET document = excluded.document
"""


def read(connection: sqlite3.Connection, owner: str) -> WebhookEndpoint | None:
    row = connection.execute(
        "SELECT document FROM webhook_endpoints WHERE owner = ?", (owner,)
    ).fetchone()
    return None if row is None else _endpoints().validate_json(row["document"])


def store(connection: sqlite3.Connection, endpoint: WebhookEndpoint) -> None:
    document = _endpoints().dump_json(endpoint).decode()
    connection.execute(_STORE, (endpoint.owner, document))


def remove(connection: sqlite3.Connection, owner: str) -> None:
    connection.execute("DELETE FROM webhook_endpoints WHERE owner = ?", (owner,))


@cache
def _endpoints() -> TypeAdapter[WebhookEndpoint]:
    return TypeAdapter(WebhookEndpoint)
