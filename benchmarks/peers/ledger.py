"""What the renders themselves have written down: when each began and ended, in which process."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    at: float  # seconds, by the machine's clock
    what: str  # "started" or "finished"
    process_id: int
    prompt: str


def read_ledger(file: Path) -> Sequence[Entry]:
    """In the order it was written; a line that is still being written is left out."""
    if not file.exists():
        return []
    entries = []
    for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
        at, what, process_id, prompt = line.split(" ", 3)
        entries.append(Entry(float(at), what, int(process_id), prompt))
    return entries


def moments(entries: Sequence[Entry], what: str) -> Mapping[str, float]:
    """By prompt; of a job that was rendered several times, the last one."""
    return {entry.prompt: entry.at for entry in entries if entry.what == what}


def renders_finished(entries: Sequence[Entry]) -> Mapping[str, int]:
    """How often each prompt was rendered to the end."""
    return Counter(entry.prompt for entry in entries if entry.what == "finished")


def in_work(entries: Sequence[Entry]) -> Entry | None:
    """The render that began last, if it has not ended."""
    last = entries[-1] if entries else None
    return last if last is not None and last.what == "started" else None
