"""What is there when everything has ended: jobs, files, processes, and what the logs tell."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx

from services.torture.cluster import Cluster
from services.torture.tormentor import OWNER
from shared.job import Job
from shared.wiring import Wiring

_ALL = 10**6
_FETCH_SECONDS = 30.0
_FIRST_BYTES = 100


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A file in the artifact store."""

    sha256: str
    begins_with: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    jobs: Mapping[str, Job]
    files: Mapping[str, FoundFile]  # by key
    partial_files: Sequence[str]
    endings: Mapping[str, Sequence[str]]  # by job: each time a process said that it ended it
    breaches: Sequence[str]  # what a worker did to a job that was another's
    processes: Sequence[str]  # that outlived the cluster
    did_not_stop: Sequence[str]  # programs that took too long to stop
    errors_logged: Sequence[str]  # the last line of each, with how often


def jobs_in(wiring: Wiring) -> Mapping[str, Job]:
    page = wiring.store.list(OWNER, kind="video", limit=_ALL)
    return {job.id: job for job in page.jobs}


def files_on_disk(folder: Path) -> Mapping[str, FoundFile]:
    return {
        path.relative_to(folder).as_posix(): _found(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def files_in_bucket(url: str, bucket: str) -> Mapping[str, FoundFile]:
    """Listed and read as any client of Cloud Storage would."""
    found: dict[str, FoundFile] = {}
    with httpx.Client(base_url=f"{url}/storage/v1/b/{bucket}/", timeout=_FETCH_SECONDS) as client:
        page: str | None = ""
        while page is not None:
            listing = client.get("o", params={"pageToken": page} if page else {}).json()
            for entry in listing.get("items", []):
                media = httpx.get(entry["mediaLink"], timeout=_FETCH_SECONDS)
                found[entry["name"]] = _found(media.raise_for_status().content)
            page = listing.get("nextPageToken")
    return found


def left_in(*folders: Path) -> Sequence[str]:
    """Scratch files that nobody has removed."""
    return [
        str(path.relative_to(folder.parent))
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    ]


def endings_in(log_files: Sequence[Path]) -> Mapping[str, Sequence[str]]:
    """By job, the outcomes that our programs logged as theirs."""
    endings: dict[str, list[str]] = {}
    for entry in _entries(log_files):
        if entry.get("message") == "job ended":
            endings.setdefault(str(entry["job_id"]), []).append(str(entry["outcome"]))
    return endings


def errors_in(log_files: Sequence[Path]) -> Sequence[str]:
    """The last lines of what was logged as an error, with how often."""
    last_lines = Counter(
        str(entry["exception"]).strip().splitlines()[-1]
        for entry in _entries(log_files)
        if entry.get("severity") in ("ERROR", "CRITICAL") and entry.get("exception")
    )
    return [f"{count} × {line}" for line, count in last_lines.most_common()]


def outlived(cluster: Cluster) -> Sequence[str]:
    return [f"{process.pid} {' '.join(process.cmdline())}" for process in cluster.living()]


def _entries(log_files: Sequence[Path]) -> list[dict[str, object]]:
    entries = []
    for file in log_files:
        for line in file.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut off when its process was
            if isinstance(entry, dict):
                entries.append(entry)
    return entries


def _found(content: bytes) -> FoundFile:
    return FoundFile(
        sha256=sha256(content).hexdigest(),
        begins_with=content[:_FIRST_BYTES].decode(errors="replace"),
    )
