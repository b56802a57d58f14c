"""GET requests to wherever a video's URL leads: the only module that opens a connection to a media host.

Two invariants. A socket is used only if the address that it is connected to may be asked: the address is checked
between lookup and connect, and again on the connected socket, so that no second lookup can tell something else.
The API key goes to the very origin of the connection's base URL, and nowhere else.
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
from airflow_provider_veo.net.adapter import Deadline, GuardedAdapter
from airflow_provider_veo.net.addresses import METADATA, Policy, same_host
from airflow_provider_veo.net.session import TRANSPORT_ERRORS, Bearer, Session
from airflow_provider_veo.protocol import envelope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_REDIRECTS = 5
CHUNK_BYTES = 1024 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MASKED_CHARACTERS = 16
"""A query that is shorter holds no signature, and would be masked in texts that have nothing to do with it."""
_MASKED_VALUES = 24
"""Of one URL; a signature has a handful. Airflow's masker takes longer with each of them, also for all later lines."""
_MASKED_VALUES_IN_ALL = 100
_URL_CHARACTERS = 8192
_PRIVATE_HINT = "If videos do come from such addresses, set allow_private_media in the connection's extra."
_LOOKUP_HINT = (
    "If workers have no DNS and reach media hosts through the proxy only, set allow_private_media in the "
    "connection's extra."
)
_HINTS = {METADATA: "Nobody has a video there: ask where this URL comes from."}
_QUERY = re.compile(r"\?[^\s'\"<>()]+")


class UrlRefusedError(Exception):
    """
    This URL is not asked.

    :param reason: without the URL's query.
    :param hint: what can be done.
    """

    def __init__(self, reason: str, hint: str = "Check the URL, and where it leads to.") -> None:
        super().__init__(reason)
        self.hint = hint


class Answer:
    """
    An answer whose body is still to be read.

    :param url: where it came from, after all redirects.
    """

    def __init__(self, url: str, response: requests.Response) -> None:
        self.url = url
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    def read(self) -> bytes:
        """Return what is there, at most 1 MiB, as soon as there is anything; nothing at the end."""
        chunk: bytes = self._response.raw.read1(CHUNK_BYTES, decode_content=False)
        return chunk

    def beginning(self, size: int, seconds: float) -> bytes:
        """Return the beginning of a body, as far as it comes in time."""
        body = bytearray()
        deadline = time.monotonic() + seconds
        with contextlib.suppress(*TRANSPORT_ERRORS):
            while len(body) < size and time.monotonic() < deadline and (chunk := self.read()):
                body += chunk
        return bytes(body[:size])

    @contextlib.contextmanager
    def ended_after(self, seconds: float) -> Iterator[None]:
        """
        End the connection after this time, also within a read: then the read fails or finds the end of the body.

        A read alone has no deadline: chunk headers and trailers may come one byte at a time, without an end.
        """
        deadline = Deadline(seconds)
        with contextlib.suppress(OSError, ValueError):  # the whole body has been read
            deadline.watch(self._response.raw)
        try:
            yield
        finally:
            deadline.cancel()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *error: object) -> None:
        self._response.close()


class Web:
    """
    Sends the requests of one download.

    With a proxy, the connection's own or the environment's, the socket is connected to the proxy, and it is the proxy
    that looks names up. Then a host is looked up here beforehand, and refused by what that says; that the proxy finds
    the same addresses can't be known. A host that can't be looked up here is refused, unless the connection allows
    private media or the host is the relay's own.

    :param settings: the connection to the relay.
    :param veo_task_id: which may stand in a URL, and is no secret.
    """

    def __init__(self, settings: connection.VeoConnection, veo_task_id: str | None = None) -> None:
        self._settings = settings
        self._veo_task_id = veo_task_id
        self._session = Session()
        # A connection for each request: none is taken over from a time when other addresses were allowed.
        own = {"User-Agent": connection.HEADERS["User-Agent"], "Accept": "*/*", "Connection": "close"}
        self._session.headers.update(own)
        self._policy = Policy(allow_private=False, own_host=None)
        self._adapter = GuardedAdapter(self._check_addresses, self._check_by_lookup)
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)
        self._secrets: dict[str, None] = dict.fromkeys(settings.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat: the key, and the signatures of the URLs seen so far; the longest first."""
        return tuple(sorted(self._secrets, key=len, reverse=True))

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def get(self, url: str, headers: Mapping[str, str], seconds: float) -> Answer:
        """
        Send a GET request, and follow its redirects.

        :param url: absolute, http or https.
        :param headers: sent to every hop.
        :param seconds: until the answer has begun, for each hop.
        :raises UrlRefusedError: the URL or where it leads to.
        :raises requests.RequestException: and the others of ``TRANSPORT_ERRORS``: there is no answer.
        """
        own_host = own_origin = True
        for _ in range(MAX_REDIRECTS + 1):
            self._remember(url)
            _check_form(url)
            # Another host may name any port and any path of the relay's. From then on it is a host like all others.
            own_origin = own_origin and _origin(url) == _origin(self._settings.base_url)
            own_host = own_host and (own_origin or _is_at(url, self._settings.base_url))
            self._policy = Policy(self._settings.allow_private_media, _host(url) if own_host else None)
            response = self._send(url, headers, seconds, with_key=own_origin)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return Answer(url, response)
            response.close()
            target = urljoin(url, requote_uri(location.strip()))
            self._remember(target)
            downgrade = urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http"
            if downgrade and not self._settings.allow_insecure_http:
                raise UrlRefusedError(
                    f"{shown(url)} redirects to plain http, {shown(target)}",
                    "If that is as it should be, set allow_insecure_http in the connection's extra.",
                )
            url = target
        raise UrlRefusedError(f"it redirects more than {MAX_REDIRECTS} times, at last to {shown(url)}")

    def _send(self, url: str, headers: Mapping[str, str], seconds: float, *, with_key: bool) -> requests.Response:
        settings = self._settings
        if with_key:
            connection.refuse_plain_http_to_the_public(settings)
        auth = Bearer(settings.api_key if with_key else None)
        try:
            request = self._session.prepare_request(requests.Request("GET", url, headers=dict(headers), auth=auth))
        except (requests.exceptions.RequestException, urllib3.exceptions.LocationParseError):
            raise UrlRefusedError(f"{shown(url)} is no valid URL") from None
        host = _host(str(request.url))
        if reason := self._policy.refusal_of_name(host):
            raise UrlRefusedError(f"{host} is {reason}", _HINTS[reason])
        # The proxy and the CA bundle as VeoHook has them: the connection's, or else the environment's.
        proxies = {"http": settings.proxy, "https": settings.proxy} if settings.proxy else {}
        network = self._session.merge_environment_settings(
            str(request.url), proxies, True, settings.ca_bundle or True, None
        )
        timeout = (min(settings.connect_timeout, seconds), min(settings.read_timeout, seconds))
        with self._adapter.ended_after(seconds):
            return self._session.send(request, timeout=timeout, allow_redirects=False, **network)

    def _check_by_lookup(self, url: str) -> None:
        """Refuse a URL that a proxy is to fetch, by what its host's lookup says here."""
        host = _host(url)
        try:
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            if not self._policy.needs_lookup(host):
                return
            reason = f"{host} can't be looked up here, and where the proxy would connect is not known"
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                raise requests.ConnectionError(f"{reason} ({error}). {_LOOKUP_HINT}") from None
            raise UrlRefusedError(reason, _LOOKUP_HINT) from None
        self._check_addresses(host, (str(info[4][0]) for info in infos))

    def _check_addresses(self, host: str, addresses: Iterable[str]) -> None:
        """Refuse a host that has any address that is not to be asked: which one is taken is chance."""
        for address in addresses:
            if reason := self._policy.refusal(host, address):
                which = address if same_host(host, address) else f"{host} is {address}, and that"
                raise UrlRefusedError(f"{which} is {reason}", _HINTS.get(reason, _PRIVATE_HINT))

    def _remember(self, url: str) -> None:
        """Never repeat what signs a URL, in this module's texts or in this task's log."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return
        try:
            values = [parts.query, *(value for _, value in parse_qsl(parts.query, max_num_fields=_MASKED_VALUES))]
        except ValueError:  # more than any signature has, and each of them would make Airflow's masker slower
            values = [parts.query]
        if len(self._secrets) > _MASKED_VALUES_IN_ALL:
            return
        for secret in (each for value in values for each in (value, unquote(value))):
            is_signature = len(secret) >= _MASKED_CHARACTERS and secret != self._veo_task_id
            if is_signature and secret not in self._secrets:
                self._secrets[secret] = None
                mask_secret(secret)

    def describe(self, error: BaseException) -> str:
        """Say in one line what came in place of an answer."""
        text = _QUERY.sub("?…", f"{type(error).__name__}: {error}")
        return envelope.excerpt(text, self.secrets)


def shown(url: str) -> str:
    """Return a URL as it may be shown: without its query, which holds signatures, and without user and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a URL that is not valid)"
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    text = "".join(character if character.isprintable() else "?" for character in bare)
    return text if len(text) <= 300 else f"{text[:299]}…"


def _check_form(url: str) -> None:
    """Refuse what two programs may read in two ways, and what is no address of a file."""
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError:
        raise UrlRefusedError("it is no valid URL") from None
    if len(url) > _URL_CHARACTERS:
        raise UrlRefusedError(f"{shown(url)} goes on for {len(url):,} characters")
    if parts.scheme not in ("http", "https"):
        raise UrlRefusedError(f"{shown(url)} is neither http nor https")
    if not host or ("%" in host and ":" not in host) or re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise UrlRefusedError(f"{shown(url)} is no valid URL")
    if user is not None or "@" in parts.netloc:
        raise UrlRefusedError(f"{shown(url)} comes with a user name: such a URL is made to mislead")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme, 0)
    return parts.scheme, _host(url), port


def _is_at(url: str, base_url: str) -> bool:
    """Whether it is the address that a base URL names itself. A name, its owner may lead to any address at any time."""
    host = _host(base_url)
    is_address = host == "localhost" or ":" in host or host.replace(".", "").isdecimal()
    return is_address and same_host(_host(url), host)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
