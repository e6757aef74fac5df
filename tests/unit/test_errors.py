"""The error tree: the one that is drawn is the one that is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.errors import (
    ConfigurationError,
    Fault,
    InvalidRequest,
    LeaseError,
    OperatorError,
    PromptreelError,
    RequesterError,
    TooManyJobs,
    TooManyRequests,
    TransientError,
)

BRANCH = re.compile(r"^((?:[│ ] {3})*)[├└]── (\w+)")


def tree(error: type[PromptreelError]) -> Iterator[type[PromptreelError]]:
    yield error
    for lower in error.__subclasses__():
        yield from tree(lower)


def drawn_parents() -> dict[str, str]:
    """Each drawn error's parent, as the docstring of the module has it."""
    path = ["PromptreelError"]
    parents = {}
    for line in errors.__doc__.splitlines():
        if branch := BRANCH.match(line):
            depth = len(branch.group(1)) // 4 + 1
            parents[branch.group(2)] = path[depth - 1]
            path[depth:] = [branch.group(2)]
    return parents


ALL = [error for error in tree(PromptreelError) if error.__module__ == errors.__name__]
every_error = pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)


def test_the_drawn_tree_is_the_tree_of_classes_in_the_same_order():
    there = {
        error.__name__: error.__base__.__name__ for error in ALL if error is not PromptreelError
    }
    drawn = drawn_parents()
    assert drawn == there
    assert list(drawn) == list(there)


def test_every_error_has_a_code_of_its_own():
    codes = [error.code for error in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@every_error
def test_an_error_says_whose_fault_it_is_and_whether_to_retry(error):
    if issubclass(error, TransientError):
        assert (error.fault, error.retry) == (Fault.NOBODY, True)
    elif issubclass(error, LeaseError):
        assert (error.fault, error.retry) == (Fault.NOBODY, False)
    elif issubclass(error, TooManyJobs | TooManyRequests):
        assert (error.fault, error.retry) == (Fault.REQUESTER, True)
    elif issubclass(error, RequesterError):
        assert (error.fault, error.retry) == (Fault.REQUESTER, False)
    else:
        assert issubclass(error, OperatorError) or error is PromptreelError
        assert (error.fault, error.retry) == (Fault.OPERATOR, False)


@pytest.mark.parametrize(
    "error",
    [
        errors.Unauthenticated(),
        errors.JobNotFound(),
        errors.IdempotencyConflict(),
        errors.JobAlreadyTerminal("finished"),
        errors.ArtifactNotReady("queued"),
        errors.LinkTampered(),
        errors.QueueFull("It is full.", retry_after_seconds=5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_message_of_our_own_is_a_sentence_that_says_what_to_do(error):
    assert re.fullmatch(r"[A-Z].+\.", error.message)


def test_a_refused_field_is_named():
    assert InvalidRequest("Shorten it.", field="prompt").field == "prompt"
    assert InvalidRequest("Give a body.").field is None


def test_a_configuration_error_lists_the_file_and_every_key_with_its_reason():
    error = ConfigurationError(
        Path("/etc/promptreel.yaml"), [("server.port", "too big"), ("", "no")]
    )
    assert error.message.splitlines() == [
        "/etc/promptreel.yaml cannot be used:",
        "  server.port: too big",
        "  no",
    ]
