"""Why ours does not lead a column, where it does not: written by hand, by the column's first word.

Each is a choice that can be read in the code it names. Where there is none, the page says that it is not
explained, and that is a defect.
"""

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    "accept": (
        "A job is admitted, its message queued, and it is marked as published: three transactions, the first two "
        "of them flushed (a flush is shared by all who wait for one), so that a crash between any two is found "
        "and mended. Before that a submission is checked (key, limits, Idempotency-Key, unknown fields), and "
        "after it told in two lines of log. By profile the three transactions are about two thirds of the time "
        "within the app, the rest the checks, the reply and the log; and there is the hand-over between the "
        "server and its thread. RQ and Celery write a "
        "hash and a list in one go, and the brackets show what a disk adds to that. What it is worth is in the "
        "table of faults, where everything is killed."
    ),
    "started": (
        "The worker looks for messages a hundred times a second, for SQLite cannot call it, and claims the job "
        "in a transaction that is flushed. A worker on Redis is woken by its connection, and a server that "
        "renders itself has no queue between. A named pipe that wakes the worker was tried: it saves 4 ms, of "
        "a job that takes seconds, and is not worth its code."
    ),
    "poller": (
        "When a render has ended, the worker asks once more whether the job is still its own, stores the file "
        "under its final name with its checksum, flushed, and its folders too, then the job's log, and "
        "completes the job in a transaction with the lease checked; then it is visible. The others leave the "
        "file where the render wrote it."
    ),
    "told": (
        "The same, and the event stream looks at the job a hundred times a second. A held request is told by "
        "the process that rendered; it has nobody else to ask."
    ),
    "polls": (
        "A poll says more: the place in the queue and the seconds left, counted at that moment, besides the key "
        "that is checked and a line of the access log. Redis answers with one hash. Each of eight pollers has a "
        "thread, and these take turns at Python's lock, some longer than others: so that a slow upload, a stream "
        "or a wait keeps nobody else; uvicorn's one loop takes them in order."
    ),
    "memory": (
        "An API, a courier, a worker and its render process are four processes, so that each may die alone. "
        "Cog's server is one Rust program with one Python beside it."
    ),
    "startup": (
        "The API opens its stores, checks its configuration and keys and registers every surface with its "
        "schemas before it listens, in a process of its own under granian's; courier and worker start beside "
        "it, on the same two cores."
    ),
}
