"""The page: by surface, each operation with what it takes, what it replies, and an example of both."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from services.api.reference.types_told import as_cell, linked, told

Document: TypeAlias = Mapping[str, Any]

_JSON = "application/json"
_FORM = "multipart/form-data"
_EXAMPLE_ID = "job_5f0c6a3d2b9e4c0f8a7d1e6b3c2f9a04"

_BLANK_LINES = re.compile(r"\n{3,}")
_PLACES = {"path": "in the path", "query": "in the query", "header": "header"}

_BEGINNING = """\
<!-- Written by `make docs` from the API's own specification: change that, not this. -->

# The API

{description}
Every server has this page as `/docs`, and the specification it is written from as `/openapi.yaml`, with the limits of
that installation; here they are those of one that changed none. The examples take for granted:

```console
$ URL=http://127.0.0.1:8000
$ AUTH="Authorization: Bearer $(cat .promptreel/client.key)"
$ JSON="Content-Type: application/json"
```

"""


def page(document: Document) -> str:
    """Of a specification, as Markdown."""
    parts = [_BEGINNING.format(description=document["info"]["description"])]
    descriptions = {tag["name"]: tag.get("description", "") for tag in document["tags"]}
    by_tag = _by_tag(document)
    parts += [f"- [{tag}](#{_anchor(tag)}): {descriptions[tag]}\n" for tag in by_tag]
    parts.append("- [What replies hold](#what-replies-hold)\n")
    for tag, operations in by_tag.items():
        parts.append(f"\n## {tag}\n\n{descriptions[tag]}\n")
        for method, path, operation in operations:
            parts += _operation(method, path, operation, document)
    parts.append("\n## What replies hold\n")
    for name in sorted(_replied(document)):
        parts += _schema(name, document["components"]["schemas"][name])
    return _BLANK_LINES.sub("\n\n", "".join(parts)).rstrip("\n") + "\n"


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _by_tag(document: Document) -> Mapping[str, list[tuple[str, str, Document]]]:
    """In the order of the paths."""
    found: dict[str, list[tuple[str, str, Document]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    return found


def _operation(method: str, path: str, operation: Document, document: Document) -> Iterator[str]:
    yield f"\n### {operation['summary'].rstrip('.')}\n\n"
    yield f"`{method} {path}`{_key(operation)}\n\n"
    if "description" in operation:
        yield f"{operation['description']}\n\n"
    yield from _parameters(operation)
    yield from _body(operation, document)
    yield _example_request(method, path, operation)
    yield from _replies(operation)
    yield from _errors(operation)


def _key(operation: Document) -> str:
    ways = operation.get("security", [{}])
    if {} not in ways:
        return ""
    return " · with a key, or by a signed link" if len(ways) > 1 else " · needs no key"


def _parameters(operation: Document) -> Iterator[str]:
    if "parameters" not in operation:
        return
    yield "| parameter | | |\n|---|---|---|\n"
    for each in operation["parameters"]:
        schema = each["schema"]
        yield _row(
            f"`{each['name']}` {_PLACES[each['in']]}",
            told(schema) + _default(schema),
            each.get("description", ""),
        )
    yield "\n"


def _body(operation: Document, document: Document) -> Iterator[str]:
    content = operation.get("requestBody", {}).get("content", {})
    schemas = {kind: _resolved(media["schema"], document) for kind, media in content.items()}
    if not schemas:
        return
    first, *others = schemas.values()
    yield from _fields(first, "field of the body", asked=True)
    for kind, schema in zip(list(schemas)[1:], others, strict=True):
        files = [name for name in schema["properties"] if name not in first["properties"]]
        also = {name: schema["properties"][name] for name in files}
        yield f"As `{kind}` the same"
        yield f", and {_named(also)}.\n\n" if also else ".\n\n"


def _named(fields: Mapping[str, Document]) -> str:
    kinds = [f"`{name}` ({told(field)}: {field['description']})" for name, field in fields.items()]
    return " and ".join(kind.replace(".)", ")") for kind in kinds)


def _fields(schema: Document, heading: str, *, asked: bool) -> Iterator[str]:
    required = schema.get("required", [])
    yield f"| {heading} | | |\n|---|---|---|\n"
    for name, field in schema["properties"].items():
        default = _default(field) if asked and name not in required else ""
        must = " (must be there)" if asked and name in required else ""
        yield _row(f"`{name}`{must}", told(field) + default, field.get("description", ""))
    yield "\n"


def _default(field: Document) -> str:
    default = field.get("default")
    if default in (None, ""):
        return ""
    return f"; by default `{default if isinstance(default, str) else json.dumps(default)}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(as_cell(cell) for cell in cells)} |\n"


def _example_request(method: str, path: str, operation: Document) -> str:
    parts = ["curl -s"]
    if method not in ("GET", "POST") or (method == "POST" and "requestBody" not in operation):
        parts.append(f"-X {method}")
    address = path
    for each in operation.get("parameters", []):
        if each["in"] == "path":
            address = address.replace(f"{{{each['name']}}}", _EXAMPLE_ID)
    parts.append(f'"$URL{address}"')
    if operation.get("security"):
        parts.append('-H "$AUTH"')
    content = operation.get("requestBody", {}).get("content", {})
    if _JSON in content:
        body = json.dumps(content[_JSON]["example"], ensure_ascii=False)
        parts.append(f'-H "$JSON" -d {shlex.quote(body)}')
    lines = [" ".join(parts)]
    if _FORM in content:
        lines.append(_as_form(content[_FORM], parts[:-1]))
    shown = "".join(f"$ {line}\n" for line in lines)
    return f"```console\n{shown}```\n\n"


def _as_form(media: Document, beginning: list[str]) -> str:
    fields = [f"-F {shlex.quote(f'{name}={value}')}" for name, value in media["example"].items()]
    files = [f"-F {name}=@picture.jpg" for name in list(media.get("encoding", {}))[:1]]
    return " ".join([*beginning, *fields, *files])


def _replies(operation: Document) -> Iterator[str]:
    for status, response in operation["responses"].items():
        if status >= "400" and not _is_a_reply_all_the_same(response):
            continue
        schemas = [media["schema"] for media in response.get("content", {}).values()]
        kinds = [
            linked(schema["$ref"].rpartition("/")[2]) for schema in schemas if "$ref" in schema
        ]
        yield f"**{status}** {response['description']}"
        yield f": {kinds[0]}" if kinds else ""
        yield from _headers(response)
        yield "\n\n"
        for kind, media in response.get("content", {}).items():
            if kind == _JSON:
                example = json.dumps(media["example"], indent=2, ensure_ascii=False)
                yield f"```json\n{example}\n```\n\n"


def _headers(response: Document) -> Iterator[str]:
    for name, header in response.get("headers", {}).items():
        yield f" · `{name}`: {header['description'].rstrip('.')}"


def _errors(operation: Document) -> Iterator[str]:
    yield "| error | for example | |\n|---|---|---|\n"
    for status, response in sorted(operation["responses"].items()):
        if status >= "400" and not _is_a_reply_all_the_same(response):
            error = response["content"][_JSON]["example"]["error"]
            yield _row(status, f"`{error['code']}`", error["message"])
    yield "\n"


def _is_a_reply_all_the_same(response: Document) -> bool:
    """Whoever asks how it is gets an answer, whatever the answer is."""
    return "error" not in response.get("content", {}).get(_JSON, {}).get("example", {})


def _resolved(schema: Document, document: Document) -> Document:
    if "$ref" not in schema:
        return schema
    found: Document = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _schema(name: str, schema: Document) -> Iterator[str]:
    yield f"\n### {name}\n\n"
    yield from _fields(schema, "field", asked=False)


def _replied(document: Document) -> set[str]:
    """The schemas of all replies, and what is in them."""
    asked = {
        media["schema"].get("$ref", "").rpartition("/")[2]
        for methods in document["paths"].values()
        for operation in methods.values()
        for media in operation.get("requestBody", {}).get("content", {}).values()
    }
    return set(document["components"]["schemas"]) - asked
