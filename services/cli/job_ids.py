"""Which job is meant: by its id, by the first letters of it, or as the last one."""

import re
import threading
from collections.abc import Iterator

from services.cli.connection import choose, client_of
from services.cli.exits import EXIT_REFUSED, EXIT_USAGE, CommandFailed
from shared.client import Promptreel
from shared.client.errors import ApiError, Conflict, LimitReached, Unavailable, WrongKey
from shared.schemas import JobDetails, Status

LAST = "last"
_WHOLE = re.compile(r"job_[0-9a-f]{32}")
_PAGE_JOBS = 100
# Whoever means an older job can give its whole id.
_SEARCHED_JOBS = 2000
_SHOWN_MATCHES = 3
_COMPLETION_SECONDS = 1.0
_COMPLETION_JOBS = 50


def job_id_of(client: Promptreel, said: str) -> str:
    """Raises ``CommandFailed`` where no job is meant, or several are."""
    if _WHOLE.fullmatch(said):
        return said
    matches = []
    for seen, job in enumerate(newest(client)):
        if said == LAST:
            return job.id
        if seen >= _SEARCHED_JOBS:
            break
        if _means(said, job.id):
            matches.append(job.id)
    if len(matches) == 1:
        return matches[0]
    if not matches:
        what = "There is no job yet" if said == LAST else f"No job's id begins with {said}"
        raise CommandFailed(f"{what}. `promptreel list` shows what there is.", EXIT_REFUSED)
    some = ", ".join(matches[:_SHOWN_MATCHES])
    raise CommandFailed(
        f"{said} may be one of {len(matches)} jobs ({some} …). Give more of its id.", EXIT_USAGE
    )


def newest(client: Promptreel, status: Status | None = None) -> Iterator[JobDetails]:
    """All jobs, a page at a time."""
    after = None
    while True:
        try:
            page = client.list(limit=_PAGE_JOBS, after=after, order="desc", status=status)
        except (WrongKey, Conflict, LimitReached, Unavailable):
            raise
        except ApiError as error:
            if error.code not in ("not_found", "method_not_allowed"):
                raise
            raise CommandFailed(
                "This server cannot list jobs yet. Give the job's whole id.", EXIT_REFUSED
            ) from None
        yield from page.data
        if not page.has_more or page.last_id is None:
            return
        after = page.last_id


def completions(server: str | None, incomplete: str) -> list[tuple[str, str]]:
    """The newest jobs, if the server answers within a second; never an error."""
    found: list[tuple[str, str]] = []
    # A thread that may be left behind: no answer is worth a shell that hangs.
    asking = threading.Thread(target=_ask, args=(server, incomplete, found), daemon=True)
    asking.start()
    asking.join(_COMPLETION_SECONDS)
    return list(found)


def _ask(server: str | None, incomplete: str, found: list[tuple[str, str]]) -> None:
    try:
        chosen = choose(server)
        with client_of(chosen, timeout_seconds=_COMPLETION_SECONDS, tries=1) as client:
            page = client.list(limit=_COMPLETION_JOBS, order="desc")
    except Exception:  # noqa: BLE001 - whatever it is, a half-typed line is no place to say it
        return
    newest_jobs = [(LAST, "the newest"), *((job.id, job.status) for job in page.data)]
    found.extend(each for each in newest_jobs if each[0].startswith(incomplete))


def _means(said: str, job_id: str) -> bool:
    return job_id.startswith(said) or job_id.removeprefix("job_").startswith(said)
