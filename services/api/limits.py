"""What a request body may be: small, JSON, one object, and read the same way by everybody."""

import json
from io import SEEK_END
from typing import IO, Any, NoReturn

from flask import Flask, current_app, g, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.wsgi import get_input_stream

from services.api.context import api
from shared.config import Config
from shared.errors import BodyTooLarge, BodyTooSlow, MalformedBody, UnsupportedContentType
from shared.images.submission import INPUT_FIELDS

# A prediction has its log in it.
WEBHOOK_MAX_BYTES = 1024 * 1024
# Whose routes read a form or a signed payload, as they know how.
_BODIES_OF_THEIR_OWN = frozenset(
    {"generations.create_generation", "videos.create_video", "webhooks.replicate_webhook"}
)
# All who have no key share what one owner may have; an owner has a name.
_STRANGERS = ""
_NOT_JSON = 'The body is not valid JSON. Send an object such as {"prompt": "…"}.'


class StrictJson(DefaultJSONProvider):
    """Refuses what JSON readers disagree about, and what would break a writer later on."""

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:  # noqa: ANN401 - the provider's signature
        """Raises ``MalformedBody``."""
        try:
            value = json.loads(s, object_pairs_hook=_unique, parse_constant=_refuse_constant)
            # Half of a surrogate pair is no text: it can be neither stored nor sent.
            json.dumps(value, ensure_ascii=False).encode()
        except RecursionError:
            raise MalformedBody("The body is nested too deeply. Send one flat object.") from None
        except UnicodeEncodeError:
            reason = "The body holds a lone surrogate (\\ud800 to \\udfff). Send whole characters."
            raise MalformedBody(reason) from None
        except ValueError:
            raise MalformedBody(_NOT_JSON) from None
        return value


def check_body() -> None:
    """Receive the body of whoever reads one, and refuse one that is none, before anything reads it.

    Raises ``BodyTooLarge``, ``BodyTooSlow``, ``TooManyRequests``, ``UnsupportedContentType`` and
    ``MalformedBody``.
    """
    limit = _limit_of(request.endpoint)
    # One more than allowed is read of a body that does not say its length, to see that it is longer.
    request.max_content_length = limit + 1
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    takes_json = _takes_json(current_app, request.endpoint)
    if takes_json or request.endpoint in _BODIES_OF_THEIR_OWN:
        _receive(limit)
    if takes_json:
        _check_json()


def forget_body(_error: BaseException | None) -> None:
    body: IO[bytes] | None = g.pop("body", None)
    if body is not None:
        body.close()


def _receive(limit: int) -> None:
    stream = get_input_stream(request.environ, max_content_length=limit + 1)
    # Whoever signs what is sent, or does not, is known only when it is here.
    sender = g.get("owner") or _STRANGERS
    g.body = body = api().incoming.receive(stream, sender=sender, most_bytes=limit)
    size_bytes = body.seek(0, SEEK_END)
    body.seek(0)
    if size_bytes > limit:  # it came in chunks and did not say how long it is
        raise _too_large(limit)
    if size_bytes < (request.content_length or 0):  # its connection has ended
        raise BodyTooSlow
    request.environ["wsgi.input"] = body
    request.environ["wsgi.input_terminated"] = True


def _check_json() -> None:
    if not request.get_data():
        raise MalformedBody('The body is missing. Send an object such as {"prompt": "…"}.')
    if request.mimetype != "application/json":
        raise UnsupportedContentType("Send the body as `Content-Type: application/json`.")
    if not isinstance(request.get_json(), dict):
        raise MalformedBody('The body must be one JSON object such as {"prompt": "…"}.')


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body has more than {limit} bytes. Send a shorter one.")


def largest_body(config: Config) -> int:
    """In bytes; no operation takes a larger one."""
    pictures = len(INPUT_FIELDS) * config.images.input_max_bytes
    return max(config.limits.body_max_bytes + pictures, WEBHOOK_MAX_BYTES)


def _limit_of(endpoint: str | None) -> int:
    """In bytes. Those that are larger than usual are read by their routes, not here."""
    config = api().wiring.config
    match endpoint:
        case "generations.create_generation":
            return config.limits.body_max_bytes + len(INPUT_FIELDS) * config.images.input_max_bytes
        case "videos.create_video":
            return config.limits.body_max_bytes + config.images.input_max_bytes
        case "webhooks.replicate_webhook":
            return WEBHOOK_MAX_BYTES
        case _:
            return config.limits.body_max_bytes


def _takes_json(app: Flask, endpoint: str | None) -> bool:
    """A view that names an argument ``body`` gets the JSON object; no other view reads one."""
    view = app.view_functions.get(endpoint or "")
    return "body" in getattr(view, "__annotations__", {})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Some readers take the first, some the last: what was checked may not be what is used.
        raise MalformedBody("A field is given twice. Give every field once.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
