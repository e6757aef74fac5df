"""docs/api.md: written from the specification, and read by people."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from services.api.app import described
from services.api.reference.page import page
from services.api.reference.types_told import as_cell, told
from services.api.specification import specification_of
from shared.config import load_config

ROOT = Path(__file__).parents[2]
KEPT = (ROOT / "docs" / "api.md").read_text()


@pytest.fixture(scope="module")
def specification():
    return yaml.safe_load(specification_of(described(load_config(None))))


def test_the_page_is_what_the_specification_says():
    command = [sys.executable, "-m", "services.api.reference"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == KEPT, "run `make docs`"


def test_every_operation_is_there_with_a_command_to_try(specification):
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            section = KEPT.partition(f"### {operation['summary'].rstrip('.')}\n")[2]
            section = section.partition("\n### ")[0]
            assert f"`{method.upper()} {path}`" in section
            assert '"$URL' in section
            for status in operation["responses"]:
                assert f"**{status}**" in section or f"| {status} |" in section, (path, status)
            for parameter in operation.get("parameters", []):
                assert f"`{parameter['name']}`" in section


def test_every_link_of_the_page_leads_somewhere():
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", KEPT, re.MULTILINE)
    }
    links = re.findall(r"\]\(#([^)]+)\)", KEPT)
    assert links
    assert set(links) <= headings


def test_a_new_operation_joins_by_itself(specification):
    new = {
        "tags": ["Jobs"],
        "summary": "Praise a job.",
        "operationId": "praise_job",
        "responses": {"204": {"description": "Praised."}},
    }
    more = specification | {"paths": specification["paths"] | {"/v1/praise": {"put": new}}}
    written = page(more)
    assert "### Praise a job\n\n`PUT /v1/praise` · needs no key\n" in written
    assert '$ curl -s -X PUT "$URL/v1/praise"\n' in written
    assert "**204** Praised.\n" in written


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 5}, "whole number, 1 to 5"),
        ({"type": "string", "minLength": 1, "maxLength": 9}, "text, 1 to 9 characters"),
        ({"type": "string", "format": "date-time"}, "time, ISO 8601"),
        ({"enum": ["a", "b"]}, "`a`, `b`"),
        ({"enum": list(range(1, 82, 4))}, "`1`, `5`, `9`, …, `81`"),
        ({"const": True}, "`true`"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null"),
        (
            {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]},
            "whole number, or that as text or null",
        ),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Job"}}, "list of [Job](#job)"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of number"),
        ({}, "anything"),
    ],
)
def test_a_type_is_told_in_words(schema, words):
    assert told(schema) == words


def test_what_would_break_a_table_does_not():
    assert as_cell("a | b\nc") == r"a \| b c"
