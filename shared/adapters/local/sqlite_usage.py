"""The ledger of usage in the SQLite job store: rows that come and are never touched again.

The file itself sees to that, whoever opens it.
"""

import sqlite3
from collections.abc import Iterable

from shared.ledger import LedgerEntry

SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    month TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at REAL NOT NULL,
    job_id TEXT NOT NULL,
    idempotency_key TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS usage_of_month ON usage (owner, month);

CREATE TRIGGER IF NOT EXISTS usage_is_not_changed BEFORE UPDATE ON usage
BEGIN
    SELECT RAISE(ABORT, 'the ledger is never changed');
END;
CREATE TRIGGER IF NOT EXISTS usage_is_not_removed BEFORE DELETE ON usage
BEGIN
    SELECT RAISE(ABORT, 'nothing is removed from the ledger');
END;
-- Entered again, an entry stays as it is: by INSERT OR REPLACE too, which tells no trigger of its DELETE.
CREATE TRIGGER IF NOT EXISTS usage_is_entered_once BEFORE INSERT ON usage
WHEN EXISTS (SELECT 1 FROM usage WHERE id = NEW.id)
BEGIN
    SELECT RAISE(IGNORE);
END;
"""

_ENTER = """\
INSERT INTO usage (id, owner, month, amount, at, job_id, idempotency_key)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_USED = "SELECT coalesce(sum(amount), 0) FROM usage WHERE owner = ? AND month = ?"


def enter(connection: sqlite3.Connection, entries: Iterable[LedgerEntry]) -> None:
    """What is there already stays as it is."""
    for entry in entries:
        connection.execute(
            _ENTER,
            (
                entry.id,
                entry.owner,
                entry.month,
                entry.amount,
                entry.at.timestamp(),
                entry.job_id,
                entry.idempotency_key,
            ),
        )


def used(connection: sqlite3.Connection, owner: str, month: str) -> int:
    (amount,) = connection.execute(_USED, (owner, month)).fetchone()
    return int(amount)
