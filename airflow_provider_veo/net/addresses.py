"""Which addresses videos must not be fetched from: pure functions, no lookup, no socket.

URLs are untrusted: they must not reach private networks or metadata services. IPv4-mapped, NAT64 and 6to4 addresses
are judged by the IPv4 address inside.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

METADATA = "the address of a cloud's metadata service, which holds credentials"
_METADATA_SERVICES = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, Google and most others
        "169.254.170.2",  # AWS ECS: credentials of a task
        "169.254.170.23",  # AWS EKS: credentials of a pod
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure, on a public address
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS EKS
        "fd20:ce::254",  # Google
    )
)

_METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "api.metadata.cloud.ibm.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)
"""Names of these services, refused without a lookup: only a proxy may be able to resolve them."""

# IANA's special-purpose registries. Listed here, since Python's ``is_global`` differs by version.
_SPECIAL_V4 = tuple(
    (ipaddress.IPv4Network(network), meaning)
    for network, meaning in (
        ("0.0.0.0/8", "an address of this network"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier's private address (CGNAT)"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "a reserved address (6to4 relays)"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_SPECIAL_V6 = tuple(
    (ipaddress.IPv6Network(network), meaning)
    for network, meaning in (
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        ("64:ff9b:1::/48", "a local NAT64 address"),
        ("2001::/23", "a reserved address (Teredo and other protocols)"),
        ("2001:db8::/32", "an address for documentation"),
        ("3fff::/20", "an address for documentation"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
    )
)
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
"""All IPv6 addresses allocated for the Internet."""

_EMBEDDING_V6 = tuple(
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("64:ff9b::/96", 0),  # NAT64
        ("2002::/16", 80),  # 6to4
    )
)
"""Networks whose addresses embed an IPv4 address, and its bit offset."""


@dataclass(frozen=True)
class Policy:
    """
    Which addresses a connection may fetch videos from.

    :param allow_private: allow private, loopback and other special addresses; never metadata services.
    :param own_host: the relay's host name, which may always be private; ``None`` for no exception.
    """

    allow_private: bool
    own_host: str | None

    def refusal_of_name(self, host: str) -> str | None:
        """
        Return why a host is refused by its name alone, or ``None``.

        :param host: as the request names it, IDNA-encoded.
        """
        return METADATA if _bare(host) in _METADATA_NAMES else None

    def needs_lookup(self, host: str) -> bool:
        """Whether the addresses of a host must be checked, also behind a proxy."""
        return not (self.allow_private or self._is_own(host))

    def refusal(self, host: str, address: str) -> str | None:
        """
        Return why a host with this address is refused, or ``None``.

        :param host: as the URL names it.
        :param address: numeric, IPv4 or IPv6.
        """
        ip = plain(address)
        if ip in _METADATA_SERVICES:
            return METADATA
        return special(ip) if self.needs_lookup(host) else None

    def _is_own(self, host: str) -> bool:
        return self.own_host is not None and same_host(host, self.own_host)


def plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address without its zone, or the IPv4 address that it embeds."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        for network, shift in _EMBEDDING_V6:
            if ip in network:
                return ipaddress.IPv4Address((int(ip) >> shift) & 0xFFFFFFFF)
        if (int(ip) >> 32) & 0xFDFFFFFF == 0x5EFE:  # ISATAP: the second half is ::5efe:a.b.c.d
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def special(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    """Return the kind of a special address, or ``None`` for an ordinary Internet address."""
    if isinstance(ip, ipaddress.IPv4Address):
        return next((meaning for network, meaning in _SPECIAL_V4 if ip in network), None)
    meaning = next((meaning for network, meaning in _SPECIAL_V6 if ip in network), None)
    return meaning or (None if ip in _UNICAST_V6 else "a reserved address")


def same_host(one: str, other: str) -> bool:
    """Whether two URLs name the same host."""
    return _bare(one) == _bare(other)


def _bare(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
