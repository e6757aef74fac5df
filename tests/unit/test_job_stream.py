"""What is told of a job that somebody follows, with a store and a clock of a few lines."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from services.api.job_stream import JobStream
from shared.job import Job, JobStatus, Lease
from shared.ports import LogLine
from shared.schemas import JobDetails
from tests.jobs import NOON, plain_job
from tests.server_sent_events import Event, events_of, lines_of

QUEUED = plain_job()
STARTED = replace(QUEUED, status=JobStatus.STARTED, started_at=NOON)
HALF = replace(STARTED, status=JobStatus.PROGRESS, progress=50)
FINISHED = replace(HALF, status=JobStatus.FINISHED, progress=100, finished_at=NOON)
LEASE = Lease(token="t", worker="w", claimed_at=NOON, expires_at=NOON)

Step = Job | int | float


@dataclass
class Log:
    """The lines of one job; numbers begin anywhere and have gaps, as a store's may."""

    lines: list[LogLine] = field(default_factory=list)

    def append(self, count: int) -> None:
        for _ in range(count):
            number = self.lines[-1].number + 3 if self.lines else 5
            self.lines.append(LogLine(number, f"line {number}"))

    def read_log(self, _job_id: str, *, after: int, limit: int) -> list[LogLine]:
        return [line for line in self.lines if line.number > after][:limit]


@dataclass
class Script:
    """A job to look at, so many lines more, or seconds that pass until the next look."""

    steps: Iterable[Step]
    log: Log = field(default_factory=Log)
    now: float = 1000.0
    describe: Callable[[Job], JobDetails] | None = None

    def jobs(self) -> Iterator[Job]:
        for step in self.steps:
            match step:
                case int():
                    self.log.append(step)
                case float():
                    self.now += step
                case _:
                    yield step

    def chunks(self, *, after: int = 0) -> Iterator[bytes]:
        return JobStream(
            jobs=self.jobs(),
            store=self.log,
            describe=self.describe or details,
            line=after,
            clock=lambda: self.now,
        ).events()

    def events(self, *, after: int = 0) -> list[Event]:
        return list(events_of(self.chunks(after=after)))


def details(job: Job, *, position: int | None = None) -> JobDetails:
    return JobDetails(
        id=job.id,
        status=job.status.value,
        progress=job.progress,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        gcs_uri=None,
        error=None,
        queue_position=position,
        estimated_seconds_left=None,
        cost_usd=None,
    )


def test_a_job_that_has_ended_is_told_with_its_log_and_its_end():
    told = Script([2, FINISHED]).events()
    assert [event.name for event in told] == ["job", "log", "log", "end"]
    assert told[0].data == told[3].data == details(FINISHED).model_dump(mode="json")
    assert lines_of(told) == ["line 5", "line 8"]


def test_every_change_is_told_and_every_line_where_it_came():
    told = Script([QUEUED, STARTED, 1, STARTED, HALF, 2, FINISHED]).events()
    assert [event.name for event in told] == [
        "job",
        "job",
        "log",
        "job",
        "job",
        "log",
        "log",
        "end",
    ]
    statuses = [event.data["status"] for event in told if event.name != "log"]
    assert statuses == ["queued", "started", "progress", "finished", "finished"]


def test_an_events_id_is_the_number_of_the_last_line_that_was_told():
    told = Script([QUEUED, 2, STARTED, FINISHED]).events()
    expected = [("job", "0"), ("job", "0"), ("log", "5"), ("log", "8"), ("job", "8"), ("end", "8")]
    assert [(event.name, event.id) for event in told] == expected


def test_what_changes_and_is_nobodys_business_is_not_told():
    told = Script([STARTED, replace(STARTED, lease=LEASE), FINISHED]).events()
    assert [event.name for event in told] == ["job", "job", "end"]


def test_a_burst_is_told_whole_and_in_order():
    told = Script([1, QUEUED, 1700, FINISHED]).events()
    assert lines_of(told) == [f"line {number}" for number in range(5, 5 + 3 * 1701, 3)]


def test_only_the_lines_after_the_one_asked_for_are_told():
    told = Script([4, FINISHED]).events(after=8)
    assert (told[0].name, told[0].id) == ("job", "8")
    assert lines_of(told) == ["line 11", "line 14"]
    assert lines_of(Script([4, FINISHED]).events(after=999)) == []


@pytest.mark.parametrize("cut", range(1, 13))
def test_wherever_a_connection_is_cut_the_next_one_goes_on_and_no_line_is_lost_or_doubled(cut):
    script = Script([QUEUED, 2, STARTED, 3, STARTED, 1, HALF, 2, FINISHED])
    chunks = script.chunks()
    before = list(events_of(next(chunks) for _ in range(cut)))
    chunks.close()
    rest = Script([FINISHED], log=script.log)
    rest.log.append(8 - len(rest.log.lines))
    after = rest.events(after=int(before[-1].id))
    assert lines_of(before) + lines_of(after) == [line.text for line in rest.log.lines]
    assert after[-1].name == "end"


def test_while_nothing_happens_a_comment_says_every_fifteen_seconds_that_it_lives():
    script = Script([QUEUED, 10.0, QUEUED, 4.9, QUEUED, 0.1, QUEUED, 14.9, QUEUED, 0.1, QUEUED])
    _job, *others = [(chunk, script.now - 1000) for chunk in script.chunks()]
    assert others == [(b": alive\n\n", 15), (b": alive\n\n", 30)]


def test_what_is_told_is_a_sign_of_life():
    script = Script([QUEUED, 10.0, 1, QUEUED, 10.0, STARTED, 10.0, STARTED])
    assert b": alive\n\n" not in list(script.chunks())


def test_a_place_in_the_queue_that_has_changed_meanwhile_is_told_instead_of_a_comment():
    positions = iter([3, 2, 2])
    script = Script([QUEUED, 15.0, QUEUED, 15.0, QUEUED])
    script.describe = lambda job: details(job, position=next(positions))
    first, second, alive = script.chunks()
    told = [event.data["queue_position"] for event in events_of([first, second])]
    assert (told, alive) == ([3, 2], b": alive\n\n")


def test_a_stream_that_is_cut_has_no_end():
    assert [event.name for event in Script([QUEUED, HALF]).events()] == ["job", "job"]


def test_a_line_of_any_text_is_one_line_of_ascii():
    text = "a\nb\r\nevent: end\u2028ü\u0085 🐈"
    script = Script([FINISHED], log=Log([LogLine(1, text)]))
    assert lines_of(script.events()) == [text]
    (written,) = [chunk for chunk in script.chunks() if b"event: log" in chunk]
    assert written.isascii()
    assert len(written.decode().splitlines()) == 4
