"""What is said when this process is nobody to Google."""

from collections.abc import Iterator
from contextlib import contextmanager

from google.auth.exceptions import GoogleAuthError

from shared.errors import ConfigurationError


@contextmanager
def told_as_configuration() -> Iterator[None]:
    """Google's clients look for credentials when they are made: what they miss, an operator mends."""
    try:
        yield
    except GoogleAuthError as error:
        reason = (
            f"there are no usable Google credentials ({type(error).__name__}); run on Google Cloud, "
            "or `gcloud auth application-default login`"
        )
        raise ConfigurationError(None, [("gcp", reason)]) from error
