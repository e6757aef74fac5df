"""What Dockerfiles say: their stages, and what the image of each holds and starts."""

import json
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[1]
DOCKERFILES = {name: ROOT / "services" / name / "Dockerfile" for name in ("api", "gpu_worker")}

PACKAGES = "/opt/promptreel"
CODE = "/app"
STATE = "/var/lib/promptreel"


@dataclass(frozen=True)
class Step:
    instruction: str
    value: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.value)


@dataclass(frozen=True)
class Dockerfile:
    file: Path

    @cached_property
    def steps(self) -> list[Step]:
        parser = DockerfileParser(fileobj=BytesIO(self.file.read_bytes()))
        return [
            Step(step["instruction"], step["value"])
            for step in parser.structure
            if step["instruction"] != "COMMENT"
        ]

    @cached_property
    def arguments(self) -> dict[str, str]:
        """Those before the first stage, by which bases are named."""
        found = {}
        for step in self.steps:
            if step.instruction == "FROM":
                break
            name, _, value = step.value.partition("=")
            found[name] = value
        return found

    @cached_property
    def stages(self) -> dict[str, list[Step]]:
        """By their names; each begins with its FROM."""
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            if step.instruction == "FROM":
                found[step.words[-1]] = current = []
            elif not found:
                continue
            current.append(step)
        return found

    @cached_property
    def bases(self) -> set[str]:
        """Images of others."""
        named = {self._resolved(stage[0].words[0]) for stage in self.stages.values()}
        return named - self.stages.keys() - {"scratch"}

    @property
    def copied(self) -> list[str]:
        """What is taken from the repository."""
        return [
            source
            for step in self.steps
            if step.instruction == "COPY" and not step.value.startswith("--from=")
            for source in step.words[:-1]
        ]

    def _resolved(self, value: str) -> str:
        for name, meant in self.arguments.items():
            value = value.replace(f"${{{name}}}", meant)
        return value


@dataclass(frozen=True)
class Image:
    dockerfile: Dockerfile
    target: str

    @property
    def command(self) -> list[str]:
        """What it starts: an array, or this is no JSON."""
        return json.loads(self._last("CMD"))

    @property
    def user(self) -> str:
        return self._last("USER")

    @property
    def port(self) -> int:
        return int(self._last("EXPOSE"))

    @property
    def environment(self) -> dict[str, str]:
        words = [word for value in self._all("ENV") for word in shlex.split(value)]
        return dict(word.split("=", 1) for word in words)

    @property
    def labels(self) -> dict[str, str]:
        words = [word for value in self._all("LABEL") for word in shlex.split(value)]
        return dict(word.split("=", 1) for word in words)

    @property
    def extras(self) -> set[str]:
        """Of our package, that are installed into it."""
        stage = self.dockerfile.stages[self._stage_of(PACKAGES)]
        (extras,) = re.findall(r"\$1\[([\w,-]+)\]", " ".join(step.value for step in stage))
        return set(extras.split(","))

    @property
    def code(self) -> list[tuple[str, str]]:
        """What is copied from the repository, and where to."""
        stage = self.dockerfile.stages[self._stage_of(CODE)]
        return [
            (source, step.words[-1])
            for step in stage
            if step.instruction == "COPY"
            for source in step.words[:-1]
        ]

    def _stage_of(self, folder: str) -> str:
        (stage,) = (
            step.words[0].removeprefix("--from=")
            for step in self.dockerfile.stages[self.target]
            if step.instruction == "COPY" and step.words[-1] == folder
        )
        return stage

    def _all(self, instruction: str) -> list[str]:
        stage = self.dockerfile.stages[self.target]
        return [step.value for step in stage if step.instruction == instruction]

    def _last(self, instruction: str) -> str:
        return self._all(instruction)[-1]


API = Image(Dockerfile(DOCKERFILES["api"]), "api")
GPU_WORKER = Image(Dockerfile(DOCKERFILES["gpu_worker"]), "warm")
BAKE = Image(Dockerfile(DOCKERFILES["gpu_worker"]), "bake")
REMOTE_WORKER = Image(Dockerfile(DOCKERFILES["gpu_worker"]), "remote")
