"""GET requests for a video's URL: the only module that opens connections to media hosts.

Two invariants. A socket is used only if its address is allowed: the address is checked between lookup and connect, and
again on the connected socket, so that a second lookup can't return a different one. The API key is sent only to the
exact origin of the connection's base URL.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit, urlunsplit

import requests
import urllib3
from requests.utils import requote_uri

from airflow_provider_veo import connection
from airflow_provider_veo.compat import mask_secret
from airflow_provider_veo.net.adapter import GuardedAdapter
from airflow_provider_veo.net.addresses import METADATA, Policy, same_host
from airflow_provider_veo.net.deadline import Deadline
from airflow_provider_veo.net.session import TRANSPORT_ERRORS, Bearer, Session
from airflow_provider_veo.protocol import envelope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_REDIRECTS = 5
CHUNK_BYTES = 1024 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MASKED_CHARACTERS = 16
"""Shorter values are not signatures, and masking them would hide unrelated text."""
_MASKED_VALUES = 24
"""Maximum per URL; a signature has a handful. Each one slows down Airflow's masker for all later log lines."""
_MASKED_VALUES_IN_ALL = 100
_URL_CHARACTERS = 8192
_PRIVATE_HINT = "If your videos are served from such addresses, set allow_private_media in the connection's extra."
_LOOKUP_HINT = (
    "If workers have no DNS and reach media hosts through the proxy only, set allow_private_media in the "
    "connection's extra."
)
_HINTS = {METADATA: "No video is served there. Find out where this URL comes from."}
_QUERY = re.compile(r"\?[^\s'\"<>()]+")


class UrlRefusedError(Exception):
    """
    No request is sent to this URL.

    :param reason: without the URL's query.
    :param hint: what to do next.
    """

    def __init__(self, reason: str, hint: str = "Check the URL and where it redirects to.") -> None:
        super().__init__(reason)
        self.hint = hint


class Answer:
    """
    An answer whose body has not been read yet.

    :param url: its URL, after all redirects.
    """

    def __init__(self, url: str, response: requests.Response) -> None:
        self.url = url
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    @property
    def fails_for_now(self) -> bool:
        """Whether the host can't answer at the moment, but may later."""
        return self.status in (408, 425, 429) or self.status >= 500

    def read(self) -> bytes:
        """Return the next bytes, at most 1 MiB, as soon as any arrive; empty at the end."""
        chunk: bytes = self._response.raw.read1(CHUNK_BYTES, decode_content=False)
        return chunk

    def beginning(self, size: int, seconds: float) -> bytes:
        """Return the beginning of a body, as far as it arrives in time."""
        body = bytearray()
        deadline = time.monotonic() + seconds
        with contextlib.suppress(*TRANSPORT_ERRORS):
            while len(body) < size and time.monotonic() < deadline and (chunk := self.read()):
                body += chunk
        return bytes(body[:size])

    @contextlib.contextmanager
    def ended_after(self, seconds: float) -> Iterator[Deadline]:
        """
        Close the connection after this time, also during a read, which then fails or reaches the end of the body.

        A read alone has no deadline: chunk headers and trailers may arrive one byte at a time, endlessly.
        """
        deadline = Deadline(seconds)
        with contextlib.suppress(OSError, ValueError):  # the whole body has been read
            deadline.watch(self._response.raw)
        try:
            yield deadline
        finally:
            deadline.cancel()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *error: object) -> None:
        self._response.close()


class Web:
    """
    Sends the requests of one download.

    With a proxy (the connection's or the environment's), the socket is connected to the proxy, which resolves the names
    itself. A host is then also resolved here first, and refused by the result; that the proxy finds the same addresses
    can't be known. A host that can't be resolved here is refused, unless the connection allows private media or the
    host is the relay's own.

    :param settings: the connection to the relay.
    :param veo_task_id: not a secret, though it may be part of a URL.
    :param with_key: send the key to the relay's own origin, and allow its address. Otherwise the relay is a host like
        any other.
    """

    def __init__(
        self, settings: connection.VeoConnection, veo_task_id: str | None = None, *, with_key: bool = True
    ) -> None:
        self._settings = settings
        self._with_key = with_key
        self._veo_task_id = veo_task_id
        self._session = Session()
        # One connection per request: none is reused from a request with a different policy.
        own = {"User-Agent": connection.HEADERS["User-Agent"], "Accept": "*/*", "Connection": "close"}
        self._session.headers.update(own)
        self._policy = Policy(allow_private=False, own_host=None)
        self._adapter = GuardedAdapter(self._check_addresses, self._check_by_lookup)
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)
        self._secrets: dict[str, None] = dict.fromkeys(settings.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat: the key and the signatures of all URLs seen so far, longest first."""
        return tuple(sorted(self._secrets, key=len, reverse=True))

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def get(self, url: str, headers: Mapping[str, str], seconds: float) -> Answer:
        """
        Send a GET request and follow its redirects.

        :param url: absolute, http or https.
        :param headers: sent to every hop.
        :param seconds: maximum time until the answer begins, redirects included.
        :raises UrlRefusedError: the URL or a redirect is not allowed.
        :raises requests.RequestException: or another one of ``TRANSPORT_ERRORS``: no answer.
        """
        own_host = own_origin = self._with_key
        ends = time.monotonic() + seconds
        for _ in range(MAX_REDIRECTS + 1):
            self._remember(url)
            _check_form(url)
            # Another host may redirect to any port and path of the relay, so the relay is then a host like any other.
            own_origin = own_origin and _origin(url) == _origin(self._settings.base_url)
            own_host = own_host and (own_origin or _is_at(url, self._settings.base_url))
            self._policy = Policy(self._settings.allow_private_media, _host(url) if own_host else None)
            response = self._send(url, headers, max(0.01, ends - time.monotonic()), with_key=own_origin)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return Answer(url, response)
            response.close()
            target = _target(url, location)
            self._remember(target)
            downgrade = urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http"
            if downgrade and not self._settings.allow_insecure_http:
                raise UrlRefusedError(
                    f"{shown(url)} redirects to plain http, {shown(target)}",
                    "If this is intended, set allow_insecure_http in the connection's extra.",
                )
            url = target
        raise UrlRefusedError(f"it redirects more than {MAX_REDIRECTS} times, the last time to {shown(url)}")

    def _send(self, url: str, headers: Mapping[str, str], seconds: float, *, with_key: bool) -> requests.Response:
        settings = self._settings
        if with_key:
            connection.refuse_plain_http_to_the_public(settings)
        auth = Bearer(settings.api_key if with_key else None)
        try:
            request = self._session.prepare_request(requests.Request("GET", url, headers=dict(headers), auth=auth))
        except (requests.exceptions.RequestException, urllib3.exceptions.LocationParseError):
            raise UrlRefusedError(f"{shown(url)} is not a valid URL") from None
        host = _host(str(request.url))
        if reason := self._policy.refusal_of_name(host):
            raise UrlRefusedError(f"{host} is {reason}", _HINTS[reason])
        # Proxy and CA bundle as in VeoHook: the connection's, otherwise the environment's.
        proxies = {"http": settings.proxy, "https": settings.proxy} if settings.proxy else {}
        network = self._session.merge_environment_settings(
            str(request.url), proxies, True, settings.ca_bundle or True, None
        )
        timeout = (min(settings.connect_timeout, seconds), min(settings.read_timeout, seconds))
        with self._adapter.ended_after(seconds):
            return self._session.send(request, timeout=timeout, allow_redirects=False, **network)

    def _check_by_lookup(self, url: str) -> None:
        """Check a URL that a proxy will fetch by resolving its host here."""
        host = _host(url)
        try:
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            if not self._policy.needs_lookup(host):
                return
            reason = f"{host} can't be resolved here, so the address that the proxy would connect to is unknown"
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                raise requests.ConnectionError(f"{reason} ({error}). {_LOOKUP_HINT}") from None
            raise UrlRefusedError(reason, _LOOKUP_HINT) from None
        self._check_addresses(host, (str(info[4][0]) for info in infos))

    def _check_addresses(self, host: str, addresses: Iterable[str]) -> None:
        """Refuse a host if any of its addresses is not allowed: which one is used is random."""
        for address in addresses:
            if reason := self._policy.refusal(host, address):
                which = address if same_host(host, address) else f"{host} resolves to {address}, which"
                raise UrlRefusedError(f"{which} is {reason}", _HINTS.get(reason, _PRIVATE_HINT))

    def _remember(self, url: str) -> None:
        """Hide the signatures of a URL in this module's messages and in the task's log."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return
        try:
            values = [parts.query, *(value for _, value in parse_qsl(parts.query, max_num_fields=_MASKED_VALUES))]
        except ValueError:  # more than any signature has; each one would slow down Airflow's masker
            values = [parts.query]
        if len(self._secrets) > _MASKED_VALUES_IN_ALL:
            return
        for secret in (each for value in values for each in (value, unquote(value))):
            is_signature = len(secret) >= _MASKED_CHARACTERS and secret != self._veo_task_id
            if is_signature and secret not in self._secrets:
                self._secrets[secret] = None
                if self._with_key:  # of images there are thousands, and no other module has their URLs
                    mask_secret(secret)

    def describe(self, error: BaseException) -> str:
        """Describe a transport error in one line."""
        text = _QUERY.sub("?…", f"{type(error).__name__}: {error}")
        return envelope.excerpt(text, self.secrets)


def shown(url: str) -> str:
    """Return a URL for messages: without its query, which contains signatures, and without user and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a URL that is not valid)"
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    text = "".join(character if character.isprintable() else "?" for character in bare)
    return text if len(text) <= 300 else f"{text[:299]}…"


def _target(url: str, location: str) -> str:
    try:
        target = urljoin(url, requote_uri(location.strip()))
        urlsplit(target)
    except ValueError:
        raise UrlRefusedError(f"{shown(url)} redirects to a URL that is not valid") from None
    return target


def _check_form(url: str) -> None:
    """Refuse URLs that two programs may read differently, and those that can't be the URL of a file."""
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError:
        raise UrlRefusedError("it is not a valid URL") from None
    if len(url) > _URL_CHARACTERS:
        raise UrlRefusedError(f"{shown(url)} has {len(url):,} characters")
    if parts.scheme not in ("http", "https"):
        raise UrlRefusedError(f"{shown(url)} is neither http nor https")
    if not host or ("%" in host and ":" not in host) or re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise UrlRefusedError(f"{shown(url)} is not a valid URL")
    if user is not None or "@" in parts.netloc:
        raise UrlRefusedError(f"{shown(url)} contains a user name, which can hide the real host")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme, 0)
    return parts.scheme, _host(url), port


def _is_at(url: str, base_url: str) -> bool:
    """Whether it is the literal address in a base URL. The owner of a name could point it anywhere at any time."""
    host = _host(base_url)
    is_address = host == "localhost" or ":" in host or host.replace(".", "").isdecimal()
    return is_address and same_host(_host(url), host)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
