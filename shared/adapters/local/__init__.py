"""One machine, durable, no account: SQLite and files."""
