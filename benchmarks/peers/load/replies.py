"""HTTP/1.1 replies as bytes: as much of them as a client of these few services needs. Pure functions."""

from dataclasses import dataclass

from peers.dialects import Request

_HEAD_ENDS = b"\r\n\r\n"
_WITHOUT_BODY = frozenset({204, 304})


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    closes: bool = False  # the connection is good for no other request


@dataclass(frozen=True)
class Head:
    status: int
    length: int | None  # None: not said
    chunked: bool
    closes: bool
    size: int  # of the head itself, in bytes


def encoded(request: Request, *, host: str) -> bytes:
    """As it goes over the wire."""
    lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.body or request.method != "GET":
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join([*lines, "", ""]).encode() + request.body


def head_of(received: bytes) -> Head | None:
    """None: it is not all here."""
    text, separator, _ = received.partition(_HEAD_ENDS)
    if not separator:
        return None
    first, *lines = text.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length")
    return Head(
        status=int(first.split(" ", 2)[1]),
        length=None if length is None else int(length),
        chunked=headers.get("transfer-encoding", "").lower() == "chunked",
        closes=headers.get("connection", "").lower() == "close",
        size=len(text) + len(_HEAD_ENDS),
    )


def reply_in(received: bytes) -> Reply | None:
    """The reply, once all of it is here; one that says no length is here when the connection ends."""
    head = head_of(received)
    if head is None:
        return None
    rest = received[head.size :]
    if head.status in _WITHOUT_BODY:
        return Reply(head.status, b"", head.closes)
    if head.chunked:
        body, complete = dechunked(rest)
        return Reply(head.status, body, head.closes) if complete else None
    if head.length is None or len(rest) < head.length:
        return None
    return Reply(head.status, rest[: head.length], head.closes)


def body_so_far(received: bytes) -> bytes:
    """Of a reply that is still coming."""
    head = head_of(received)
    if head is None:
        return b""
    rest = received[head.size :]
    return dechunked(rest)[0] if head.chunked else rest


def dechunked(data: bytes) -> tuple[bytes, bool]:
    """The content of the chunks that are here, and whether the last one is."""
    body, position = bytearray(), 0
    while (line_end := data.find(b"\r\n", position)) >= 0:
        size = int(data[position:line_end].partition(b";")[0], 16)
        begin = line_end + 2
        if size == 0:
            # Trailers are not asked for, and none of these services sends any.
            return bytes(body), data[begin : begin + 2] == b"\r\n"
        if len(data) < begin + size + 2:
            break
        body += data[begin : begin + size]
        position = begin + size + 2
    return bytes(body), False
