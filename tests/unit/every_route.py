"""Every operation that an app has, with something in the variable parts of its path."""

from collections.abc import Iterator
from dataclasses import dataclass

from flask import Flask


@dataclass(frozen=True)
class Call:
    endpoint: str
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def every_call(app: Flask, **arguments: str) -> Iterator[Call]:
    """Whatever has no value among the arguments is ``x``."""
    adapter = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        values = {name: arguments.get(name, "x") for name in rule.arguments}
        path = adapter.build(rule.endpoint, values)
        for method in sorted(rule.methods or ()):
            yield Call(rule.endpoint, method, path)
