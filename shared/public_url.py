"""URLs that others have given us, read once: what is judged is what is asked."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

_MAX_CHARS = 8192
_PRINTABLE = re.compile(r"[!-~]+")
# Names and IPv4; IPv6, which is in brackets in a URL.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_PORTS = {"http": 80, "https": 443}

# What a gateway translates to the IPv4 address in its last four bytes.
_NAT64 = IPv6Network("64:ff9b::/96")
# The whole of what is given out so far; in all else, addresses of other kinds may be hidden.
_GIVEN_OUT = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
# For protocols' own use; not every Python knows.
_PROTOCOLS = IPv4Network("192.0.0.0/24")


@dataclass(frozen=True)
class Place:
    """Where a URL leads."""

    scheme: str  # "http" or "https"
    host: str
    port: int
    netloc: str  # as it was written: the Host header
    target: str  # path and query

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def has_usual_port(self) -> bool:
        return self.port == _PORTS[self.scheme]


def read_url(url: str) -> Place:
    """Raises ``ValueError`` for what is no plain URL of the web, and for one with a name and password."""
    if len(url) <= _MAX_CHARS and _PRINTABLE.fullmatch(url):
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme in _PORTS and _HOST.fullmatch(host) and "@" not in parts.netloc:
            port = _PORTS[parts.scheme] if port is None else port
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return Place(parts.scheme, host, port, parts.netloc, target)
    raise ValueError("is no plain URL")


def is_public(address: str) -> bool:
    """Whether it is one of the open internet, and leads to no other in disguise."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast and ip not in _PROTOCOLS
    embedded = IPv4Address(ip.packed[-4:]) if ip in _NAT64 else ip.ipv4_mapped
    if embedded is not None:
        return is_public(str(embedded))
    return ip.is_global and ip in _GIVEN_OUT and ip not in _SIX_TO_FOUR and ip not in _TEREDO
