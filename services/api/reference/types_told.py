"""What a JSON schema allows, in words that fit into a table."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_SHOWN = 8  # of a long list of numbers
_KINDS = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
}
_FORMATS = {"date-time": "time, ISO 8601", "binary": "file"}


def told(schema: Schema) -> str:
    """The type with its limits: "whole number, 1 to 5"."""
    if "$ref" in schema:
        return linked(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return _either(schema["anyOf"])
    if "const" in schema:
        return _quoted(schema["const"])
    if "enum" in schema:
        return _one_of(schema["enum"])
    return _plain(schema)


def linked(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def as_cell(text: str) -> str:
    """On one line, and without what would end a cell of a table."""
    return " ".join(text.split()).replace("|", r"\|")


def _plain(schema: Schema) -> str:
    match schema.get("type"):
        case "array":
            return f"list of {told(schema['items'])}"
        case "object":
            values = schema.get("additionalProperties")
            return f"object of {told(values)}" if isinstance(values, dict) else "object"
        case "null":
            return "null"
        case None:
            return "anything"
        case kind:
            return _FORMATS.get(schema.get("format", ""), _KINDS[kind]) + _limits(schema)


def _limits(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    unit = ""
    if "maxLength" in schema:
        least, most, unit = schema.get("minLength", 0), schema["maxLength"], " characters"
    return "" if most is None else f", {least} to {most}{unit}"


def _either(schemas: list[Schema]) -> str:
    kinds = [told(schema) for schema in schemas if not _is_a_number_as_text(schema, schemas)]
    if len(kinds) < len(schemas):
        kinds[0] += ", or that as text"
    return " or ".join(kinds)


def _is_a_number_as_text(schema: Schema, among: list[Schema]) -> bool:
    numbers = any(other.get("type") in ("integer", "number") for other in among)
    return numbers and schema.get("type") == "string"


def _one_of(values: list[Any]) -> str:
    shown = [_quoted(value) for value in values]
    if len(shown) > _SHOWN and isinstance(values[0], int):
        shown = [*shown[:3], "…", shown[-1]]
    return ", ".join(shown)


def _quoted(value: Any) -> str:  # noqa: ANN401 - any value of JSON
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
