"""The server a client talks to, and what a failed conversation with it is called."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import httpx

from shared.client.calls import ONE_WORD, Call, ReplyT
from shared.client.errors import CannotReach
from shared.client.following import SILENCE_SECONDS
from shared.client.patience import Patience

_OURS = {"User-Agent": "promptreel"}
TRIES = 4
# All pauses of one call together: a server that asks for more is told to the caller instead.
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    url: str
    key: str = field(repr=False)
    timeout_seconds: float
    tries: int

    def __post_init__(self) -> None:
        """Raises ``ValueError``, which does not hold the key."""
        check_address(self.url)
        if not ONE_WORD.fullmatch(self.key):
            raise ValueError("the API key is not one word of ASCII characters")

    @property
    def host(self) -> str:
        """As errors name it."""
        return httpx.URL(self.url).netloc.decode("ascii")

    def patience(self) -> Patience:
        return Patience(tries=self.tries, seconds=PATIENCE_SECONDS)

    def request(self, call: Call[ReplyT]) -> httpx.Request:
        return httpx.Request(
            call.method,
            self.url.rstrip("/") + call.path,
            params=call.params or None,
            headers={**_OURS, **call.headers, "Authorization": f"Bearer {self.key}"},
            json=call.json,
            extensions={"timeout": httpx.Timeout(self.timeout_seconds).as_dict()},
        )

    def stream_request(self, call: Call[ReplyT]) -> httpx.Request:
        """For what may be silent for a while."""
        request = self.request(call)
        timeout = httpx.Timeout(self.timeout_seconds, read=SILENCE_SECONDS)
        request.extensions = {"timeout": timeout.as_dict()}
        return request

    def file_request(self, url: str, headers: dict[str, str]) -> httpx.Request:
        """A signed link needs no key, and may lead to another host: none is sent."""
        timeout = httpx.Timeout(self.timeout_seconds).as_dict()
        return httpx.Request(
            "GET", url, headers={**_OURS, **headers}, extensions={"timeout": timeout}
        )


def check_address(url: str) -> None:
    """Raises ``ValueError`` for what is no server's URL."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.userinfo:
        # A name and password would be sent in the header that the key is sent in.
        raise ValueError("a server's address is http://… or https://…, without query and password")


@contextmanager
def reaching(host: str) -> Iterator[None]:
    """Raises ``CannotReach`` for whatever keeps two machines from talking."""
    try:
        yield
    except httpx.TimeoutException:
        raise CannotReach(host, "no answer in time") from None
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise CannotReach(host, str(error) or type(error).__name__) from None


def file_name(job_id: str, kind: str, url: str) -> str:
    """What a file is called if nobody says: the job's id, and the ending it has there."""
    ending = PurePosixPath(httpx.URL(url).path).suffix
    return f"{job_id}{'' if kind == 'video' else f'-{kind}'}{ending}"
