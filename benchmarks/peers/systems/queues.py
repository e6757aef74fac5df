"""FastAPI before a queue in Redis: what most people build who need jobs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from peers.environments import environment, versions
from peers.programs import Program
from peers.systems.system import Place, SetUp, System, activated

_NO_STREAM = {"told": "polled only, as it is usually built"}


@contextmanager
def _rq(place: Place) -> Iterator[SetUp]:
    python = environment("rq", place.tools.environments)
    worker = [str(python.with_name("rq")), "worker", "--url", _url(place), "render"]
    yield SetUp(programs=_behind_fastapi(place, python, web="rq_web:app", worker=worker))


@contextmanager
def _celery(place: Place) -> Iterator[SetUp]:
    python = environment("celery", place.tools.environments)
    worker = [str(python), "-m", "celery", "--app", "celery_jobs", "worker"]
    options = ["--concurrency", "1", "--loglevel", "info"]
    programs = _behind_fastapi(place, python, web="celery_web:app", worker=worker + options)
    yield SetUp(programs=programs)


def _behind_fastapi(
    place: Place, python: Path, *, web: str, worker: Sequence[str]
) -> Sequence[Program]:
    address = {**activated(python), "REDIS_URL": _url(place)}
    server = [str(python), "-m", "uvicorn", web, "--host", "127.0.0.1", "--port", str(place.port)]
    return (
        _redis(place),
        Program(name="web", role="server", command=server, environment=address),
        Program(name="worker", role="worker", command=worker, environment=address),
    )


def _redis(place: Place) -> Program:
    folder = place.folder / "redis"
    folder.mkdir(exist_ok=True)
    redis = place.tools.redis
    return Program(
        name="redis",
        role="store",
        command=redis.command(place.store_port, folder),
        environment=redis.environment,
        port=place.store_port,
    )


def _url(place: Place) -> str:
    return f"redis://127.0.0.1:{place.store_port}/0"


def _pinned(name: str, *packages: str) -> Mapping[str, str]:
    all_of_them = versions(name)
    return {package: all_of_them[package] for package in packages}


RQ = System(
    name="rq",
    title="FastAPI + RQ",
    dialect="fastapi",
    set_up=_rq,
    versions=_pinned("rq", "rq", "fastapi", "uvicorn", "redis"),
    keeps="Redis as it comes: snapshots after a minute at the earliest",
    set_as="`rq worker` as it comes, three attempts by `Retry`, uvicorn with one process",
    lacks=_NO_STREAM,
)
CELERY = System(
    name="celery",
    title="FastAPI + Celery",
    dialect="fastapi",
    set_up=_celery,
    versions=_pinned("celery", "celery", "fastapi", "uvicorn", "redis"),
    keeps="Redis as it comes: snapshots after a minute at the earliest",
    set_as=(
        "late acknowledgement, rejection when a worker is lost and a prefetch of one, as its manual advises "
        "for long tasks; a visibility timeout of an hour, its default"
    ),
    lacks=_NO_STREAM,
)
