"""The message queue in one SQLite file: visibility deadline, backoff, dead letters.

A delivered message becomes visible again at its deadline unless it is acknowledged; each delivery
gets a new receipt, so a late acknowledgement of an earlier delivery changes nothing. Only what is
published is flushed: were all else taken back by a power cut, the message would be delivered again.
"""

import sqlite3
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from shared.adapters.local.sqlite import Database
from shared.errors import QueueUnavailable, UnreadableMessage
from shared.messages import Message, decode, encode
from shared.ports import Delivery

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    data BLOB NOT NULL,
    visible_at REAL NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 0,
    receipt TEXT,
    dead INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS messages_visible ON messages (dead, topic, visible_at);
CREATE INDEX IF NOT EXISTS messages_receipt ON messages (receipt);
"""

_LOOK_EVERY_SECONDS = 0.1

# What ``dead`` says of a message.
_LIVE = 0
_GIVEN_UP = 1  # its job is to be ended
_UNREADABLE = 2  # it names no job: kept for whoever looks into the file


class SqliteQueue:
    """A ``MessageQueue``."""

    def __init__(
        self,
        file: Path,
        *,
        visibility_seconds: float,
        backoff_min_seconds: float,
        backoff_max_seconds: float,
        max_deliveries: int,
    ) -> None:
        self._database = Database(file, _SCHEMA, unavailable=QueueUnavailable)
        self._visibility_seconds = visibility_seconds
        self._backoff_min_seconds = backoff_min_seconds
        self._backoff_max_seconds = backoff_max_seconds
        self._max_deliveries = max_deliveries

    def publish(self, topic: str, message: Message) -> None:
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO messages (topic, data, visible_at) VALUES (?, ?, ?)",
                (topic, encode(message), time.time()),
            )

    def receive(self, topics: Sequence[str], *, wait_seconds: float) -> Delivery | None:
        # Some messages become visible by time alone.
        for _ in self._database.changes(seconds=wait_seconds, every_seconds=_LOOK_EVERY_SECONDS):
            for topic in topics:
                # Looking first costs no write lock while there is nothing to take.
                while self._waiting(topic):
                    if (delivery := self._take(topic)) is not None:
                        return delivery
        return None

    def acknowledge(self, delivery: Delivery) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM messages WHERE receipt = ?", (delivery.receipt,))

    def release(self, delivery: Delivery, *, delay_seconds: float | None = None) -> None:
        if delay_seconds is None:
            doublings = min(delivery.delivery_attempt - 1, 30)
            delay_seconds = min(self._backoff_min_seconds * 2**doublings, self._backoff_max_seconds)
        self._set_visible_at(delivery, time.time() + delay_seconds)

    def extend(self, delivery: Delivery) -> None:
        self._set_visible_at(delivery, time.time() + self._visibility_seconds)

    def dead_letters(self, *, limit: int) -> Sequence[Delivery]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT * FROM messages WHERE dead = ? ORDER BY id LIMIT ?", (_GIVEN_UP, limit)
            ).fetchall()
        return [delivery for row in rows if (delivery := _readable(row)) is not None]

    def depth(self, topic: str) -> int:
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(*) FROM messages WHERE dead = 0 AND topic = ?", (topic,)
            ).fetchone()
        return int(row[0])

    def ping(self) -> None:
        with self._database.read() as connection:
            connection.execute("SELECT 1 FROM messages LIMIT 1").fetchone()

    def close(self) -> None:
        self._database.close()

    def _waiting(self, topic: str) -> bool:
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT 1 FROM messages WHERE dead = 0 AND topic = ? AND visible_at <= ? LIMIT 1",
                (topic, time.time()),
            ).fetchone()
        return row is not None

    def _take(self, topic: str) -> Delivery | None:
        """Take the message visible longest, or move it to the dead letters."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM messages WHERE dead = 0 AND topic = ? AND visible_at <= ?"
                " ORDER BY visible_at, id LIMIT 1",
                (topic, time.time()),
            ).fetchone()
            if row is None:
                return None
            receipt = uuid.uuid4().hex
            dead = _LIVE
            if _readable(row) is None:
                dead = _UNREADABLE
            elif row["deliveries"] >= self._max_deliveries:
                dead = _GIVEN_UP
            connection.execute(
                "UPDATE messages SET receipt = ?, dead = ?, deliveries = deliveries + ?,"
                " visible_at = ? WHERE id = ?",
                (
                    receipt,
                    dead,
                    int(dead == _LIVE),
                    time.time() + self._visibility_seconds,
                    row["id"],
                ),
            )
            if dead != _LIVE:
                return None
            taken = connection.execute(
                "SELECT * FROM messages WHERE id = ?", (row["id"],)
            ).fetchone()
        return _readable(taken)

    def _set_visible_at(self, delivery: Delivery, visible_at: float) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE messages SET visible_at = ? WHERE receipt = ? AND dead = 0",
                (visible_at, delivery.receipt),
            )


def _readable(row: sqlite3.Row) -> Delivery | None:
    try:
        message = decode(row["data"])
    except UnreadableMessage:
        return None
    return Delivery(
        message=message,
        receipt=row["receipt"] or "",
        topic=row["topic"],
        delivery_attempt=row["deliveries"],
    )
