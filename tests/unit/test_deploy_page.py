"""docs/deploy.md says what is so."""

import re

import pytest
import yaml

from shared.prices import L4_PRICE
from tests.dockerfiles import ROOT

PAGE = (ROOT / "docs/deploy.md").read_text()
HOUR, MINUTE = 3600, 60


@pytest.mark.parametrize(
    ("what", "usd", "digits"),
    [
        ("one always there", 730 * HOUR * L4_PRICE.usd_a_second, 0),
        ("baking", 15 * MINUTE * L4_PRICE.usd_a_second * 1.5, 1),
        ("the first video", 16 * MINUTE * L4_PRICE.usd_a_second, 1),
    ],
)
def test_what_a_gpu_costs_is_what_a_second_of_it_costs(what, usd, digits):
    (row,) = [line for line in PAGE.splitlines() if line.startswith("|") and what in line][-1:]
    assert f"{usd:.{digits}f} |" in row


def test_the_price_is_the_one_that_is_counted_with_and_of_that_day():
    assert (
        f"{L4_PRICE.usd_a_second} a second, that is {L4_PRICE.usd_a_second * HOUR:.2f} an hour"
        in PAGE
    )
    assert f"US dollars, {L4_PRICE.noted_on}" in PAGE


def test_every_substitution_it_names_is_one_of_the_builds():
    known = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())["substitutions"]
    assert set(re.findall(r"\b(_[A-Z_]+)=", PAGE)) <= known.keys()


def test_every_script_it_names_is_there():
    scripts = set(re.findall(r"\bdeploy/\w+\.(?:sh|py)\b", PAGE))
    assert scripts
    for script in scripts:
        assert (ROOT / script).is_file(), script
