"""Images without Docker: folders that hold what they hold, and processes started as they start them.

An image becomes a folder: the code that is copied into it, an environment with exactly the packages that are
installed into it, and the few folders it may write to. Paths of the image are paths in that folder.
"""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from tests.dockerfiles import CODE, PACKAGES, ROOT, STATE, Image
from tests.journey.installation import tied


@dataclass(frozen=True)
class Container:
    """An image, laid out in a folder."""

    image: Image
    folder: Path

    def path(self, inside: str) -> Path:
        return self.folder / inside.removeprefix("/")

    @property
    def environment(self) -> dict[str, str]:
        """The image's, and nothing of this process."""
        places = (PACKAGES, CODE, STATE, "/etc/promptreel")
        found = {}
        for name, value in self.image.environment.items():
            for place in places:
                value = re.sub(rf"(?<![\w/]){place}(?![\w-])", str(self.path(place)), value)  # noqa: PLW2901 - one place after the other
            found[name] = value
        return found

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def files(self) -> set[Path]:
        """Everything that is there, but for where it may write."""
        state = self.path(STATE)
        return {
            path
            for path in self.folder.rglob("*")
            if state not in path.parents and path.name != "log"
        }

    @contextmanager
    def started(self, *command: str, **environment: str) -> Iterator[subprocess.Popen]:
        """Its own command, or another one; ended as Cloud Run does, by SIGTERM."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                self._command(command or self.image.command),
                cwd=self.path(CODE),
                env={**self.environment, **environment},
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            finally:
                process.kill()

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return subprocess.run(
            self._command(command),
            cwd=self.path(CODE),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _command(self, command: Sequence[str]) -> list[str]:
        program = shutil.which(command[0], path=self.environment["PATH"])
        assert program is not None, f"the image has no {command[0]}"
        return tied([program, *command[1:]])


def lay_out(image: Image, folder: Path) -> Container:
    """Make the folder of an image: its packages, its code, its places to write to."""
    container = Container(image, folder)
    for source, target in image.code:
        _copy(ROOT / source, container.path(CODE) / target, into=target.endswith("/"))
    packages = container.path(PACKAGES)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", packages], check=True)
    (site,) = packages.glob("lib/python3.*/site-packages")
    for name in sorted(_required(image.extras)):
        _install(importlib.metadata.distribution(name), site, packages / "bin")
    _name_ourselves(site)
    for place in (STATE, "/etc/promptreel/configuration"):
        container.path(place).mkdir(parents=True)
    return container


def _name_ourselves(site: Path) -> None:
    """What is left of a package without code: that it is installed, and which version."""
    version = _project()["version"]
    metadata = site / f"promptreel-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: promptreel\nVersion: {version}\n")


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        target = target / source.name if into else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _required(extras: set[str]) -> set[str]:
    """Every package that pip would install with ours, with these extras."""
    project = _project()
    waiting = [(Requirement(line), "") for line in project["dependencies"]]
    for extra in extras:
        waiting += [(Requirement(line), "") for line in project["optional-dependencies"][extra]]
    found: set[tuple[str, str]] = set()
    while waiting:
        requirement, of_extra = waiting.pop()
        marker = requirement.marker
        if marker is not None and not marker.evaluate({"extra": of_extra}):
            continue
        for extra in ("", *requirement.extras):
            if requirement.name == "promptreel":
                lines = project["optional-dependencies"].get(extra, [])
            elif (requirement.name, extra) in found:
                continue
            else:
                found.add((requirement.name, extra))
                lines = importlib.metadata.requires(requirement.name) or []
            waiting += [(Requirement(line), extra) for line in lines]
    return {name for name, _ in found}


def _install(package: importlib.metadata.Distribution, site: Path, programs: Path) -> None:
    """Links to what is installed here already; a namespace is shared with other packages."""
    installed = Path(package.locate_file(""))
    tops = set()
    for file in package.files or ():
        if file.parts[0] in ("..", "__pycache__"):
            continue
        depth = 1
        while depth < len(file.parts) and _is_namespace(installed.joinpath(*file.parts[:depth])):
            depth += 1
        tops.add(file.parts[:depth])
    for top in tops:
        link = site.joinpath(*top)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(installed.joinpath(*top))
    for entry in package.entry_points.select(group="console_scripts"):
        program = programs / entry.name
        program.write_text(
            f"#!{programs / 'python'}\nimport sys\nfrom {entry.module} import {entry.attr}\n"
            f"sys.exit({entry.attr}())\n"
        )
        program.chmod(0o755)


def _is_namespace(folder: Path) -> bool:
    return folder.is_dir() and "." not in folder.name and not (folder / "__init__.py").exists()
