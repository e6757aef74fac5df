"""Servers made for models, each by its own way to be asked for what takes long."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers.environments import environment, versions
from peers.programs import Program
from peers.systems.system import SERVING, Place, SetUp, System, activated


@contextmanager
def _bentoml(place: Place) -> Iterator[SetUp]:
    python = environment("bentoml", place.tools.environments)
    serve = [str(python), "-m", "bentoml", "serve", "bentoml_service:Video"]
    where = ["--working-dir", str(SERVING), "--host", "127.0.0.1", "--port", str(place.port)]
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(place.folder / "bentoml")}
    yield _one_program(python, [*serve, *where], quiet)


@contextmanager
def _cog(place: Place) -> Iterator[SetUp]:
    python = environment("cog", place.tools.environments)
    serve = [str(python), "-m", "cog.server.http", "--host", "127.0.0.1"]
    _leave_what_cog_build_leaves(place.folder)
    stub = {"COG_PREDICT_TYPE_STUB": f"{SERVING / 'cog_run.py'}:Runner"}
    yield _one_program(python, serve, {"PORT": str(place.port), **stub})


def _leave_what_cog_build_leaves(folder: Path) -> None:
    """The part of an image's schema that its server reads: what goes in, and that it may be streamed."""
    prompt = {"type": "string", "title": "Prompt"}
    inputs = {"type": "object", "properties": {"prompt": prompt}, "required": ["prompt"]}
    schema = {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {"/predictions": {"post": {"x-cog-streaming": True}}},
        "components": {"schemas": {"Input": inputs}},
    }
    file = folder / ".cog" / "openapi_schema.json"
    file.parent.mkdir()
    file.write_text(json.dumps(schema))


@contextmanager
def _litserve(place: Place) -> Iterator[SetUp]:
    python = environment("litserve", place.tools.environments)
    serve = [str(python), str(SERVING / "litserve_server.py"), str(place.port)]
    yield _one_program(python, serve, {})


def _one_program(python: Path, command: list[str], variables: dict[str, str]) -> SetUp:
    environment_of_it = {**activated(python), **variables}
    program = Program(name="server", role="server", command=command, environment=environment_of_it)
    return SetUp(programs=(program,))


BENTOML = System(
    name="bentoml",
    title="BentoML tasks",
    dialect="bentoml",
    set_up=_bentoml,
    versions={"bentoml": versions("bentoml")["bentoml"]},
    keeps="memory: its manual says that elsewhere than on BentoCloud tasks are for development",
    set_as="`bentoml serve` with one worker and one thread",
    lacks={"told": "tasks are polled"},
)
COG = System(
    name="cog",
    title="Cog",
    dialect="cog",
    set_up=_cog,
    versions={"cog": versions("cog")["cog"]},
    keeps="nowhere: it takes one prediction at a time and refuses the next",
    set_as="`Prefer: respond-async` with a webhook, one prediction at a time, its default",
    lacks={"poller": "it cannot be polled", "polls": "it cannot be polled"},
)
LITSERVE = System(
    name="litserve",
    title="LitServe",
    dialect="litserve",
    set_up=_litserve,
    versions={"litserve": versions("litserve")["litserve"]},
    keeps="nowhere: the request is held until the video is in its reply",
    set_as="one worker, no time limit",
    lacks={
        "accept": "a request is answered when the video is there",
        "poller": "there is nothing to poll",
        "polls": "there is nothing to poll",
    },
)
