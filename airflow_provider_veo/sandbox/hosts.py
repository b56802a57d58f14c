"""Hosts in command-line arguments and `Host` headers. Names are compared, never resolved."""

from __future__ import annotations

import ipaddress
import re

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?")
_LARGEST_PORT = 65535


def parse_host(text: str) -> tuple[str, int | None]:
    """
    Split `HOST[:PORT]` into the host, in lower case and without brackets, and the port, if any.

    :raises ValueError: It is invalid.
    """
    match = _HOST.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if not match or (port is not None and not 0 < port <= _LARGEST_PORT):
        raise ValueError(f"expected HOST or HOST:PORT, got {text!r}")
    host = match["host"].lower()
    return (str(ipaddress.IPv6Address(host[1:-1])) if host.startswith("[") else host), port


def address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a host as an IP address, or None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether a host is `localhost` or a loopback address."""
    known = address(host)
    return host == "localhost" if known is None else known.is_loopback
