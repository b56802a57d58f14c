"""An HTTP or SOCKS proxy, with the user info separated from its URL.

Clients quote a proxy's URL in errors, so they only get :attr:`Proxy.url`. The credentials go into a header.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Proxy:
    """
    A proxy.

    :param url: scheme, host and port, without user info.
    :param user_info: ``user:password`` as the original URL spells it, percent-encoded; empty if absent.
    """

    url: str
    user_info: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """
        Split a proxy's URL. Never raises; :attr:`is_valid` says whether the result can be used.

        Everything up to the last ``@`` is user info, even if the password has an unescaped ``/``, ``?`` or ``#``.

        :param url: with or without a scheme; ``http`` is the default.
        """
        url = url.strip()
        scheme, _, rest = url.partition("://") if "://" in url else ("http", "", url)
        user_info, _, host = rest.rpartition("@")
        return cls(_normal(f"{scheme.lower()}://{host}"), user_info)

    @property
    def scheme(self) -> str:
        """``http``, ``https``, ``socks5`` and so on, in lower case."""
        return self.url.partition("://")[0].lower()

    @property
    def is_http(self) -> bool:
        """Whether it is an HTTP proxy, not SOCKS."""
        return self.scheme in ("http", "https")

    @property
    def is_valid(self) -> bool:
        """Whether the URL has a known scheme, a host and, if any, a valid port."""
        try:
            parts = urlsplit(self.url)
            return bool(re.fullmatch(r"https?|socks[45][ah]?", self.scheme) and parts.hostname and parts.port != 0)
        except ValueError:
            return False

    @property
    def url_for_socks(self) -> str:
        """The URL with its user info, for SOCKS clients only: they have no headers."""
        scheme, _, host = self.url.partition("://")
        return f"{scheme}://{self.user_info}@{host}" if self.user_info else self.url

    @property
    def headers(self) -> dict[str, str]:
        """The header that authenticates to the proxy, and must go to it only; empty without user info."""
        if not self.user_info:
            return {}
        user, _, password = self.user_info.partition(":")
        credentials = f"{unquote(user)}:{unquote(password)}"
        try:
            token = credentials.encode("latin-1")  # as requests and aiohttp do
        except UnicodeEncodeError:
            token = credentials.encode(errors="surrogatepass")
        return {"Proxy-Authorization": f"Basic {base64.b64encode(token).decode('ascii')}"}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings that no message may contain: the password (or else the user name) and the header."""
        if not self.user_info:
            return ()
        user, separator, password = self.user_info.partition(":")
        secret = password if separator else user
        token = self.headers["Proxy-Authorization"].partition(" ")[2]
        return tuple(dict.fromkeys(text for text in (secret, unquote(secret), token) if text))


def _normal(url: str) -> str:
    """Normalize a URL as requests does for its proxy lookup."""
    if re.search(r":0+$", url):  # some versions of urllib3 drop it, and would use another port
        return url
    from requests.utils import prepend_scheme_if_needed

    try:
        # requests publishes no types for this function.
        return str(prepend_scheme_if_needed(url, "http"))  # type: ignore[no-untyped-call]
    except ValueError:
        return url


class ProxyRefusedError(OSError):
    """The proxy refused the request. Nothing reached the host behind it."""


def raise_if_refused(proxy: Proxy | None, url: str, status: int, headers: Mapping[str, str]) -> None:
    """
    Raise if an answer is the proxy's own 407.

    A proxy can only answer a plain http request itself; an https request goes through a tunnel.

    :param headers: headers of the answer, case-insensitive.
    :raises ProxyRefusedError: the answer is the proxy's.
    """
    is_plain = url.lower().startswith("http://")
    if proxy and proxy.is_http and is_plain and status == 407 and "Proxy-Authenticate" in headers:
        raise ProxyRefusedError(
            f"the proxy {proxy.url} answered HTTP 407. Check the user name and password in the proxy's URL."
        )


def from_environment() -> dict[str, Proxy]:
    """Return the environment's proxies by request scheme; ``all`` is for every scheme."""
    return {scheme: Proxy.parse(url) for scheme, url in getproxies().items() if url and scheme != "no"}
