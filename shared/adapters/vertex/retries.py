"""Asking somebody elsewhere until there is an answer: how often, and how long to wait in between."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from shared.errors import BackendUnavailable, PromptreelError

# How soon who waits hears that nobody wants the answer any more.
_SLICE_SECONDS = 0.25

Answer = TypeVar("Answer")


class MalformedAnswer(Exception):
    """Control flow: somebody said yes and not what they were asked for. They are asked again."""


class NoAnswer(BackendUnavailable):
    """It was asked, and nobody knows what became of it: it may be done, and charged."""


@dataclass(frozen=True)
class Failure:
    """One attempt that failed."""

    error: PromptreelError
    ask_again: bool = False
    malformed: bool = False
    retry_after_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often one question is asked again, and how long to wait before."""

    max_retries: int = 3
    # An answer that cannot be used was paid for.
    max_malformed_retries: int = 1
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0

    def pause_seconds(
        self, failure: Failure, *, retries: int, malformed: int, dice: float
    ) -> float | None:
        """None: give up. ``dice`` is 0 to 1; whoever names a time is never asked before it."""
        if not failure.ask_again or retries >= self.max_retries:
            return None
        if failure.malformed and malformed > self.max_malformed_retries:
            return None
        grown = min(self.first_pause_seconds * 2.0**retries, self.longest_pause_seconds)
        # Half of it by chance, so that those who failed together do not come back together.
        pause = grown * (1 + dice) / 2
        if failure.retry_after_seconds is None:
            return pause
        if failure.retry_after_seconds > self.longest_pause_seconds:
            return None
        return max(pause, failure.retry_after_seconds)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Asks, and asks again. What ``sleep`` and ``tell`` raise comes through: either can stop it."""

    retries: RetryPolicy
    sleep: Callable[[float], None]
    tell: Callable[[str], None]  # hears of each retry
    dice: Callable[[], float] = random.random

    def until_answered(self, attempt: Callable[[], Answer | Failure]) -> Answer:
        """Raises the error of the last failure when there is no use in asking again."""
        retries = malformed = 0
        while True:
            outcome = attempt()
            if not isinstance(outcome, Failure):
                return outcome
            malformed += outcome.malformed
            pause = self.retries.pause_seconds(
                outcome, retries=retries, malformed=malformed, dice=self.dice()
            )
            if pause is None:
                # Raised here, outside of any ``except``: the provider's own error quotes the
                # request, and would be printed as the context of ours.
                raise outcome.error
            retries += 1
            self.tell(f"{outcome.error.message} Asking again in {pause:.0f} s.")
            self.sleep(pause)


def sleep_attentively(
    seconds: float,
    look: Callable[[], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """``look`` is called a few times a second, before and after too. What it raises comes through."""
    until = clock() + seconds
    look()
    while (left := until - clock()) > 0:
        sleep(min(left, _SLICE_SECONDS))
        look()
