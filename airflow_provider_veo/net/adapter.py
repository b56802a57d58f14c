"""The requests adapter of both synchronous clients: the hook's and the downloads'.

Three invariants. A direct connection uses an address that was checked after the only lookup of its name. No request
outlives its deadline, however slowly data arrives. A proxy's credentials are in no URL that a client may quote.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from airflow_provider_veo.net.deadline import Deadline
from airflow_provider_veo.net.proxies import Proxy, raise_if_refused
from airflow_provider_veo.net.session import TRANSPORT_ERRORS
from airflow_provider_veo.protocol import VeoValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_MAX_ADDRESSES = 8
"""Maximum number of addresses tried per name, each for the connect timeout."""


class GuardedAdapter(requests.adapters.HTTPAdapter):
    """
    Sends requests over checked addresses, within deadlines, and through proxies without exposing their passwords.

    :param check: called with a host and its addresses before a direct connection, and again with the connected address.
        Raises to refuse.
    :param check_proxied: called with the URL of a request before it goes to a proxy. Raises to refuse.
    """

    def __init__(self, check: Callable[[str, Iterable[str]], None], check_proxied: Callable[[str], None]) -> None:
        self._check = check
        self._check_proxied = check_proxied
        self._credentials: dict[str, Proxy] = {}
        self._local = threading.local()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: D102  requests' own
        super().init_poolmanager(*args, **kwargs)
        self._replace_connections(self.poolmanager, _Checked)

    @contextlib.contextmanager
    def ended_after(self, seconds: float) -> Iterator[None]:
        """
        End this thread's requests after a total time, connecting and reading included.

        The timeouts of requests restart with every byte. After the deadline, reading a body fails or ends early; a
        request whose headers are not complete by then raises ``requests.Timeout``.

        :param seconds: in total.
        """
        deadline = self._local.deadline = Deadline(seconds)
        try:
            yield
        finally:
            self._local.deadline = None
            deadline.cancel()

    def watch(self, connected: Any) -> None:
        """Put a socket under this thread's deadline."""
        if deadline := self._deadline:
            deadline.watch(connected)

    def check(self, host: str, addresses: Iterable[str]) -> None:
        """Raise to refuse a host by its addresses."""
        self._check(host, addresses)

    def send(  # noqa: D102  requests' own
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        url = str(request.url)
        named = select_proxy(url, dict(proxies or {}))
        proxy = Proxy.parse(named) if named else None
        bare = {"http": proxy.url, "https": proxy.url} if proxy else {}
        if proxy and not proxy.is_http and find_spec("socks") is None:
            raise VeoValidationError(
                "The proxy can't be used. Nothing was sent.",
                [f"proxy: one for {proxy.scheme} needs PySocks: pip install 'requests[socks]'"],
            )
        if proxy:
            self._check_proxied(url)
            self._remember(proxy)
        try:
            response = super().send(request, stream, timeout, verify, cert, bare)
        except TRANSPORT_ERRORS:
            self._raise_if_late()
            raise
        try:
            # http.client accepts headers that end with the connection as complete.
            self._raise_if_late()
            raise_if_refused(proxy, url, response.status_code, response.headers)
        except BaseException:
            response.close()
            raise
        return response

    def proxy_headers(self, proxy: str) -> dict[str, str]:  # noqa: D102  requests' own
        return self._credentials[proxy].headers

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # noqa: D102  requests' own
        known = self._credentials[proxy]
        manager = super().proxy_manager_for(proxy if known.is_http else known.url_for_socks, **kwargs)
        self._replace_connections(manager, _Watched)
        return manager

    def _remember(self, proxy: Proxy) -> None:
        if self._credentials.get(proxy.url, proxy) != proxy and (old := self.proxy_manager.pop(proxy.url, None)):
            old.clear()  # its headers have the previous password
        self._credentials[proxy.url] = proxy

    @property
    def _deadline(self) -> Deadline | None:
        return getattr(self._local, "deadline", None)

    @property
    def is_late(self) -> bool:
        """Whether the deadline of this thread's request has passed."""
        deadline = self._deadline
        return deadline is not None and deadline.is_over.is_set()

    def _raise_if_late(self) -> None:
        if self.is_late and (deadline := self._deadline):
            raise requests.Timeout(f"timed out: no complete headers after {deadline.seconds:.1f} s") from None

    def _replace_connections(self, manager: Any, mixin: type[_Watched]) -> None:
        """Make a manager's pools open our connections, based on their own kind (TLS, SOCKS)."""
        ours = {}
        for scheme, pool in manager.pool_classes_by_scheme.items():
            if not issubclass(pool.ConnectionCls, _Watched):
                connection = type(mixin.__name__, (mixin, pool.ConnectionCls), {"adapter": self})
                pool = type(pool.__name__, (pool,), {"ConnectionCls": connection})
            ours[scheme] = pool
        manager.pool_classes_by_scheme = ours


def host_of(url: str) -> str:
    """
    Return the host of a URL as a request names it, IDNA-encoded.

    :raises requests.RequestException: it is not a valid URL.
    """
    return urlsplit(str(requests.Request("GET", url).prepare().url)).hostname or ""


class _Watched(HTTPConnection):
    """A connection, new or pooled, that ends with the deadline of the request that uses it."""

    adapter: GuardedAdapter

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        self.adapter.watch(connected)
        return connected

    def _tunnel(self) -> None:
        super()._tunnel()
        if self.adapter.is_late:  # truncated headers look complete, but there is no tunnel
            raise TimeoutError("the proxy did not complete its answer in time")

    def request(self, *arguments: Any, **options: Any) -> None:
        if self.sock is not None:
            self.adapter.watch(self.sock)
        super().request(*arguments, **options)


class _Checked(_Watched):
    """A connection that resolves its host once, checks every address, and connects to a checked one."""

    def _new_conn(self) -> socket.socket:
        # urllib3 resolves and connects in one step, with no room for a check in between.
        host = self._dns_host
        try:
            infos = socket.getaddrinfo(host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        self.adapter.check(host, addresses)
        failure: OSError | None = None
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                connected = create_connection(
                    (address, self.port or 0), self.timeout, self.source_address, self.socket_options
                )
            except OSError as error:
                failure = error
                if self.adapter.is_late:
                    break
                continue
            try:
                self.adapter.check(host, [str(connected.getpeername()[0])])
                self.adapter.watch(connected)
            except BaseException:
                connected.close()
                raise
            return connected
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from failure
        raise NewConnectionError(self, f"Failed to establish a new connection: {failure}") from failure
