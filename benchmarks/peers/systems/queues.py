"""FastAPI before a queue in Redis: what most people build who need jobs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from peers.environments import environment, versions
from peers.programs import Program
from peers.systems.system import Place, SetUp, System, activated

_NO_STREAM = {"told": "polled only, as it is usually built"}


@contextmanager
def _rq(place: Place, *, syncs: bool) -> Iterator[SetUp]:
    python = environment("rq", place.tools.environments)
    worker = [str(python.with_name("rq")), "worker", "--url", _url(place), "render"]
    yield SetUp(
        programs=[_redis(place, syncs=syncs), *_behind_fastapi(place, python, "rq_web:app", worker)]
    )


@contextmanager
def _celery(place: Place, *, syncs: bool) -> Iterator[SetUp]:
    python = environment("celery", place.tools.environments)
    worker = [str(python), "-m", "celery", "--app", "celery_jobs", "worker"]
    worker += ["--concurrency", "1", "--loglevel", "info"]
    yield SetUp(
        programs=[
            _redis(place, syncs=syncs),
            *_behind_fastapi(place, python, "celery_web:app", worker),
        ]
    )


def _behind_fastapi(
    place: Place, python: Path, web: str, worker: Sequence[str]
) -> Sequence[Program]:
    address = {**activated(python), "REDIS_URL": _url(place)}
    server = [str(python), "-m", "uvicorn", web, "--host", "127.0.0.1", "--port", str(place.port)]
    return (
        Program(name="web", role="server", command=server, environment=address),
        Program(name="worker", role="worker", command=worker, environment=address),
    )


def _redis(place: Place, *, syncs: bool) -> Program:
    folder = place.folder / "redis"
    folder.mkdir(exist_ok=True)
    redis = place.tools.redis
    return Program(
        name="redis",
        role="store",
        command=redis.command(place.store_port, folder, syncs=syncs),
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
    set_up=partial(_rq, syncs=False),
    versions=_pinned("rq", "rq", "fastapi", "uvicorn", "redis"),
    keeps="Redis as it comes: snapshots after a minute at the earliest",
    set_as="`rq worker` as it comes, three attempts by `Retry`, uvicorn with one process",
    lacks=_NO_STREAM,
)
CELERY = System(
    name="celery",
    title="FastAPI + Celery",
    dialect="fastapi",
    set_up=partial(_celery, syncs=False),
    versions=_pinned("celery", "celery", "fastapi", "uvicorn", "redis"),
    keeps="Redis as it comes: snapshots after a minute at the earliest",
    set_as=(
        "late acknowledgement, rejection when a worker is lost and a prefetch of one, as its manual advises "
        "for long tasks; a visibility timeout of an hour, its default"
    ),
    lacks=_NO_STREAM,
)


def _that_syncs(system: System, set_up: Callable[..., AbstractContextManager[SetUp]]) -> System:
    """Whoever is told that a job is accepted may rely on it, as with ours."""
    return replace(
        system,
        name=f"{system.name}-synced",
        title=f"{system.title}, synced",
        set_up=partial(set_up, syncs=True),
        keeps="Redis with `appendfsync always`: each change synced to the disk before the reply",
        set_as="the same",
        keeps_what_it_accepts=True,
    )


RQ_SYNCED = _that_syncs(RQ, _rq)
CELERY_SYNCED = _that_syncs(CELERY, _celery)
