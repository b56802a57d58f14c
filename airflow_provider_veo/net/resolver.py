"""The aiohttp resolver: aiohttp connects to the addresses that were checked here."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp.abc import ResolveResult


class CheckingResolver(AbstractResolver):
    """
    Resolves a host and checks its addresses. aiohttp does not call it for numeric addresses.

    :param check: called with a host and its addresses. Raises to refuse.
    """

    def __init__(self, check: Callable[[str, Iterable[str]], None]) -> None:
        self._check = check
        self._inner = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the checked addresses of a host."""
        found = await self._inner.resolve(host, port, family)
        self._check(host, [each["host"] for each in found])
        return found

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()
