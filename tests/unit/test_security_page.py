"""docs/security.md: every row names tests that show it, and they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [
    line.split(" | ")
    for line in (ROOT / "docs/security.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| somebody")
]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_threat_has_who_what_how_and_a_test_that_is_there():
    assert len(ROWS) > 25
    for row in ROWS:
        assert len(row) == 4, row
        tests = NAMED.findall(row[3])
        assert tests, row[1]
        for file, name in tests:
            assert f"\ndef {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def test_what_is_said_there_of_the_configuration_is_in_it():
    page = (ROOT / "docs/security.md").read_text()
    configuration = (ROOT / "config/promptreel.yaml").read_text()
    named = re.findall(r"`(?:limits|server|images|images\.replicate)\.(\w+)`", page)
    assert len(named) >= 4
    for key in named:
        assert re.search(rf"^ +{key}:", configuration, re.MULTILINE), key
