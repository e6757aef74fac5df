"""Promptreel for Python programs: submit, watch, fetch, over HTTP."""

from shared.client.awaiting import AsyncPromptreel
from shared.client.blocking import Promptreel

__all__ = ["AsyncPromptreel", "Promptreel"]
