"""A page of the documentation, typed: its commands are run, and are answered as it says there."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

_BLOCK = re.compile(r"```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Page:
    name: str

    def blocks(self, kind: str) -> list[str]:
        found = _BLOCK.finditer((DOCS / self.name).read_text())
        return [block["text"] for block in found if block["kind"] == kind]

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each line after a prompt, and what it is answered with."""
        for block in self.blocks("console"):
            for part in block.split("$ ", 1)[1].split("\n$ "):
                command, _, answer = part.partition("\n")
                yield command, answer.strip()

    def type_it(self, folder: Path, **environment: str) -> int:
        """How many commands there were; one that is answered otherwise fails the test."""
        typed = list(self.commands())
        script = "".join(f"{command}\necho; echo '<end>'\n" for command, _ in typed)
        answers = subprocess.run(
            ["bash", "-eu", "-c", script],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "JSON": "Content-Type: application/json",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.split("<end>\n")
        for (command, expected), answer in zip(typed, answers, strict=False):
            assert _is_like(answer.strip(), expected), (command, answer)
        return len(typed)


def _is_like(answer: str, expected: str) -> bool:
    """An ellipsis stands for anything."""
    pattern = ".*?".join(re.escape(piece) for piece in expected.split("…"))
    return re.fullmatch(pattern, answer, re.DOTALL) is not None
