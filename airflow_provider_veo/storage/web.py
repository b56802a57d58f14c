"""GET requests to wherever a video's URL leads: the only module that opens a connection to a media host.

Two invariants. A socket is used only if the address that it is connected to may be asked: the address is checked
between lookup and connect, and again on the connected socket, so that no second lookup can tell something else.
The API key goes to the very origin of the connection's base URL, and nowhere else.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from threading import Timer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit, urlunsplit

import requests
import urllib3
from requests.utils import requote_uri, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from airflow_provider_veo import connection
from airflow_provider_veo.compat import mask_secret
from airflow_provider_veo.protocol import envelope
from airflow_provider_veo.storage.addresses import METADATA, Policy, same_host
from airflow_provider_veo.transport import TRANSPORT_ERRORS, Bearer, Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_REDIRECTS = 5
CHUNK_BYTES = 1024 * 1024
_MAX_ADDRESSES = 8
"""That are tried of one name, each for as long as the connect timeout."""
_REDIRECTS = (301, 302, 303, 307, 308)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MASKED_CHARACTERS = 16
"""A query that is shorter holds no signature, and would be masked in texts that have nothing to do with it."""
_PRIVATE_HINT = "If videos do come from such addresses, set allow_private_media in the connection's extra."
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
        try:
            connected = socket.socket(fileno=socket.dup(self._response.raw.fileno()))
        except (OSError, ValueError):  # the whole body has been read
            yield
            return

        def end() -> None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

        timer = Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            connected.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *error: object) -> None:
        self._response.close()


class Web:
    """
    Sends the requests of one download.

    With a proxy, the connection's own or the environment's, the socket is connected to the proxy, and it is the proxy
    that looks names up. Then a host is looked up here beforehand, and refused by what that says; that the proxy finds
    the same addresses can't be known. A host that can't be looked up here is left to the proxy. Nor can a connection
    to a proxy be ended before its answer begins, but by its timeouts.

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
        self._adapter = _CheckingAdapter()
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
            own_host = own_host and same_host(_host(url), _host(self._settings.base_url))
            own_origin = own_origin and _origin(url) == _origin(self._settings.base_url)
            self._adapter.policy = Policy(self._settings.allow_private_media, _host(url) if own_host else None)
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
        # The proxy and the CA bundle as VeoHook has them: the connection's, or else the environment's.
        proxies = {"http": settings.proxy, "https": settings.proxy} if settings.proxy else {}
        network = self._session.merge_environment_settings(
            str(request.url), proxies, True, settings.ca_bundle or True, None
        )
        if select_proxy(str(request.url), network["proxies"]):
            self._check_by_lookup(str(request.url))
        timeout = (min(settings.connect_timeout, seconds), min(settings.read_timeout, seconds))
        with self._adapter.ended_after(seconds):
            return self._session.send(request, timeout=timeout, allow_redirects=False, **network)

    def _check_by_lookup(self, url: str) -> None:
        host = _host(url)
        with contextlib.suppress(OSError, UnicodeError):
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            _check_addresses(self._adapter.policy, host, (str(info[4][0]) for info in infos))

    def _remember(self, url: str) -> None:
        """Never repeat what signs a URL, in this module's texts or in this task's log."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return
        values = [parts.query, *(value for _, value in parse_qsl(parts.query))]
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
    if parts.scheme not in ("http", "https"):
        raise UrlRefusedError(f"{shown(url)} is neither http nor https")
    if not host or re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise UrlRefusedError(f"{shown(url)} is no valid URL")
    if user is not None or "@" in parts.netloc:
        raise UrlRefusedError(f"{shown(url)} comes with a user name: such a URL is made to mislead")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme, 0)
    return parts.scheme, _host(url), port


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _check_addresses(policy: Policy, host: str, addresses: Iterable[str]) -> None:
    """Refuse a host that has any address that is not to be asked: which one is taken is chance."""
    for address in addresses:
        if reason := policy.refusal(host, address):
            which = address if same_host(host, address) else f"{host} is {address}, and that"
            raise UrlRefusedError(f"{which} is {reason}", _HINTS.get(reason, _PRIVATE_HINT))


class _CheckingAdapter(requests.adapters.HTTPAdapter):
    """Connects directly to addresses that the policy allows only. Connections to a proxy are requests' own."""

    policy = Policy(allow_private=False, own_host=None)

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        adapter = self

        class Plain(_Checked, HTTPConnection):
            _adapter = adapter

        class Encrypted(_Checked, HTTPSConnection):
            _adapter = adapter

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Encrypted

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}

    @contextlib.contextmanager
    def ended_after(self, seconds: float) -> Iterator[None]:
        """End the connections made within after so much time: a timeout alone begins anew with every byte."""
        over = threading.Event()
        timer = threading.Timer(seconds, self._end, (over,))
        timer.daemon = True
        timer.start()
        try:
            yield
        except TRANSPORT_ERRORS:
            if not over.is_set():
                raise
            raise requests.Timeout(f"timed out: no answer had begun after {seconds:.1f} s") from None
        finally:
            timer.cancel()
            while self._sockets:
                self._sockets.pop().close()

    def watch(self, connected: socket.socket) -> None:
        """Take a duplicate, for TLS takes the socket itself away."""
        self._sockets.append(connected.dup())

    def _end(self, over: threading.Event) -> None:
        over.set()
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Checked(HTTPConnection):
    """A connection that looks its host up once, checks every address, and connects to one that it has checked."""

    _adapter: _CheckingAdapter

    def _new_conn(self) -> socket.socket:
        # Connect by hand: urllib3 looks a name up and connects to it in one step, with no room for a check between.
        host = self._dns_host
        try:
            infos = socket.getaddrinfo(host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        _check_addresses(self._adapter.policy, host, addresses)
        failure: OSError | None = None
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                connected = create_connection(
                    (address, self.port or 0), self.timeout, self.source_address, self.socket_options
                )
            except OSError as error:
                failure = error
                continue
            try:
                _check_addresses(self._adapter.policy, host, [str(connected.getpeername()[0])])
                self._adapter.watch(connected)
            except BaseException:
                connected.close()
                raise
            return connected
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from failure
        raise NewConnectionError(self, f"Failed to establish a new connection: {failure}") from failure
