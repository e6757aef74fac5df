"""What a command says: results on stdout, everything else on stderr."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


@functools.cache
def console() -> "Console":
    """Of stderr, for people."""
    from rich.console import Console  # noqa: PLC0415 - completion has nothing to show

    return Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Output:
    """For people, or with ``--json`` for programs: then stdout has one object a line, nothing else."""

    as_json: bool

    def result(self, text: str, data: Mapping[str, Any]) -> None:
        typer.echo(json.dumps(data, ensure_ascii=False) if self.as_json else text)

    def data(self, data: Mapping[str, Any]) -> None:
        """What only a program wants to know."""
        if self.as_json:
            typer.echo(json.dumps(data, ensure_ascii=False))

    def remark(self, text: str) -> None:
        console().print(text, markup=False, soft_wrap=True)
