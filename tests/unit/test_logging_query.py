"""The judge of log-based metrics judges as Cloud Logging's documentation says."""

import pytest

from tests.logging_query import as_entry, extract, parse

LINE = {
    "severity": "INFO",
    "message": "job ended",
    "seconds": 2.5,
    "status": 503,
    "code": None,
    "trace": "abc",
    "logging.googleapis.com/trace": "projects/p/traces/abc",
}
ENTRY = as_entry(LINE, service_name="promptreel-api")


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ('jsonPayload.message="job ended"', True),
        ('jsonPayload.message="Job Ended"', True),
        ('jsonPayload.message="job"', False),
        ("jsonPayload.seconds>=2.5", True),
        ("jsonPayload.seconds>2.5", False),
        ("jsonPayload.status>=1000", False),
        ("jsonPayload.code>=0", False),
        ("jsonPayload.none>=0", False),
        ("jsonPayload.none<0", False),
        ("jsonPayload.message:*", True),
        ("jsonPayload.code:*", False),
        ("severity=INFO AND jsonPayload.status=503", True),
        ("severity=ERROR OR jsonPayload.status=503 AND jsonPayload.seconds<1", False),
        ("(severity=INFO OR jsonPayload.none:*) AND NOT jsonPayload.status=500", True),
        ("jsonPayload.status=(500 OR 503)", True),
        ('resource.labels.service_name=~"^promptreel-[a-z-]+$"', True),
        ('resource.labels.service_name!~"worker"', True),
        ('resource.labels.worker_pool_name=~"."', False),
        ('trace="projects/p/traces/abc"', True),
        ("jsonPayload.severity:*", False),
    ],
)
def test_a_filter_holds_or_does_not(query, holds):
    assert parse(query)(ENTRY) is holds


@pytest.mark.parametrize(
    "query", ['jsonPayload.message:"job"', "jsonPayload.a = b c", "a=1 XOR b=2", "(a=1", "a~1"]
)
def test_what_it_cannot_judge_it_refuses(query):
    with pytest.raises((AssertionError, IndexError)):
        parse(query)


def test_a_field_is_extracted():
    assert extract("EXTRACT(jsonPayload.seconds)", ENTRY) == 2.5
    assert extract("EXTRACT(jsonPayload.none)", ENTRY) is None
    with pytest.raises(AssertionError):
        extract('REGEXP_EXTRACT(jsonPayload.message, "(.*)")', ENTRY)
