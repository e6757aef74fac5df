"""`promptreel logs`: what the worker did for a job."""

from collections.abc import Callable, Sequence

from services.cli.connection import connected
from services.cli.exits import EXIT_INTERRUPTED, CommandFailed
from services.cli.job_ids import job_id_of
from services.cli.output import Output
from shared.client import Promptreel
from shared.client.following import LogLine


def logs(said: str, *, follow: bool, tail: int | None, server: str | None, output: Output) -> None:
    def show(line: str) -> None:
        output.result(line, {"line": line})

    with connected(server) as client:
        job_id = job_id_of(client, said)
        if not follow:
            for line in client.logs(job_id, tail=tail):
                show(line)
            return
        try:
            _follow(client, job_id, tail, show)
        except KeyboardInterrupt:
            raise CommandFailed("Stopped reading; the job goes on.", EXIT_INTERRUPTED) from None


def _follow(client: Promptreel, job_id: str, tail: int | None, show: Callable[[str], None]) -> None:
    """All lines once, or the newest and then what comes."""
    skipped: Sequence[str] = client.logs(job_id, tail=tail) if tail else ()
    for line in skipped:
        show(line)
    seen = not skipped
    heard = False
    for event in client.events(job_id):
        if not isinstance(event, LogLine):
            continue
        heard = True
        if seen:
            show(event.line)
        # What was shown from the end of the log comes again from its beginning.
        seen = seen or event.line == skipped[-1]
    if not heard:
        # An older server tells of the job only: the rest of its log is read once it has ended.
        lines = client.logs(job_id)
        known = lines.index(skipped[-1]) + 1 if skipped and skipped[-1] in lines else 0
        for line in lines[known:]:
            show(line)
