"""Google's emulators for the tests that talk to them: one pair a run, started when first asked for.

Those named by ``PUBSUB_EMULATOR_HOST`` and ``FIRESTORE_EMULATOR_HOST`` are used instead if set. They
are shared by all tests of a run: each test takes a project of its own, ``emulated_project``.
"""

import os
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager

import pytest
from hypothesis import settings

from services.emulators.google import firestore_emulator, pubsub_emulator, why_not_installed

# No test asserts a time, on however busy a machine; what else CI's own profile says, counts there.
settings.register_profile("promptreel", deadline=None)
settings.load_profile("promptreel")


class NoEmulators(pytest.skip.Exception):
    """The test needs an emulator and none can be started here."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give the skips for want of an emulator one place, so that they make one line together."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(NoEmulators):
        report.longrepr = (str(item.config.rootpath / "tests"), None, str(call.excinfo.value))
    return report


@pytest.fixture(scope="session")
def firestore_emulator_host() -> Iterator[str]:
    """A Firestore emulator's ``host:port``; Google's client finds it by FIRESTORE_EMULATOR_HOST."""
    yield from _emulator("FIRESTORE_EMULATOR_HOST", firestore_emulator)


@pytest.fixture(scope="session")
def pubsub_emulator_host() -> Iterator[str]:
    """A Pub/Sub emulator's ``host:port``; Google's client finds it by PUBSUB_EMULATOR_HOST."""
    yield from _emulator("PUBSUB_EMULATOR_HOST", pubsub_emulator)


@pytest.fixture
def emulated_project() -> str:
    """A project nobody has used before: what other tests left behind is in other projects."""
    return f"demo-{secrets.token_hex(6)}"


def _emulator(variable: str, start: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    if running := os.environ.get(variable):
        yield running
        return
    if missing := why_not_installed():
        reason = f"no Google Cloud emulators: {missing}"
        if os.environ.get("REQUIRE_EMULATORS") == "1":
            pytest.fail(f"REQUIRE_EMULATORS=1, but {reason}", pytrace=False)
        raise NoEmulators(reason)
    with start() as address:
        yield address
