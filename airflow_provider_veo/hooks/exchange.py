"""HTTP exchanges with a relay from an event loop, over pooled sockets."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import proxy_bypass

import aiohttp
import yarl

from airflow_provider_veo import connection
from airflow_provider_veo.net import proxies
from airflow_provider_veo.net.resolver import CheckingResolver
from airflow_provider_veo.protocol import VeoUnavailableError, VeoValidationError, responses
from airflow_provider_veo.protocol.api import ApiRequest, Reply

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from airflow_provider_veo.protocol import VideoTask

TRANSPORT_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""Raised when there is no answer, or only a part of one."""


class Exchange:
    """
    The sockets to one relay.

    :param connections: maximum number of concurrent requests. Others wait.
    :param keepalive: seconds that an idle socket is kept open.
    """

    def __init__(self, connections: int, keepalive: float = 15.0) -> None:
        self._connections = connections
        self._keepalive = keepalive
        self._ssl: ssl.SSLContext | bool = True
        self._proxy: proxies.Proxy | None = None
        self._checked: dict[str, connection.VeoConnection] = {}
        self._resolver: CheckingResolver | None = None
        self._session: aiohttp.ClientSession | None = None
        # Limits concurrent requests. A pool limit won't do: time in its queue counts towards aiohttp's timeout.
        self._turn = asyncio.Semaphore(connections)

    def prepare(self, settings: connection.VeoConnection) -> None:
        """
        Use these settings from now on. Blocks: it resolves the host and reads the CA bundle.

        :raises VeoValidationError: it is plain http to a public address, or its proxy is not supported here.
        :raises VeoUnavailableError: its host can't be resolved.
        """
        connection.refuse_plain_http_to_the_public(settings)
        # Not on each request: it reads the whole environment twice.
        proxy = usable_proxy(settings)
        self._checked[_host(settings.base_url)] = settings
        needs_tls = settings.ca_bundle or settings.base_url.startswith("https:")
        self._ssl = _ssl_context(settings.ca_bundle) if needs_tls else True
        self._proxy = proxy

    async def close(self) -> None:
        """Close the sockets. The next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()

    def _check(self, host: str, addresses: Iterable[str]) -> None:
        """Refuse a public address of the relay's host if the key would be sent over plain http."""
        if settings := self._checked.get(host.rstrip(".").lower()):
            connection.refuse_public_addresses(settings, addresses)

    async def send(
        self,
        settings: connection.VeoConnection,
        request: ApiRequest,
        data: aiohttp.Payload | None = None,
    ) -> Reply:
        """
        Send one request, and return its answer.

        :param settings: the connection.
        :param request: to the relay's API.
        :param data: its body.
        :raises ProxyRefusedError: a proxy refused the request; nothing reached the relay.
        :raises TRANSPORT_ERRORS: there is no answer.
        """
        proxy, url = self._proxy, settings.api.url(request)
        is_plain = url.startswith("http:")
        # A plain request goes to the proxy itself; of an encrypted one, only the CONNECT does.
        credentials = proxy.headers if proxy else {}
        async with (
            self._turn,
            self._opened().request(
                request.method,
                _encoded(url, request),
                headers={
                    **request.headers,
                    "Authorization": f"Bearer {settings.api_key}",
                    **(credentials if is_plain else {}),
                },
                data=data,
                allow_redirects=False,
                proxy=proxy.url if proxy else None,
                proxy_headers=None if is_plain else credentials,
                ssl=self._ssl,
                timeout=aiohttp.ClientTimeout(
                    total=settings.connect_timeout + 2 * settings.read_timeout,
                    sock_connect=settings.connect_timeout,
                    sock_read=settings.read_timeout,
                ),
            ) as response,
        ):
            proxies.raise_if_refused(proxy, url, response.status, response.headers)
            return Reply(response.status, dict(response.headers), await _read(response))

    async def poll(self, settings: connection.VeoConnection, veo_task_id: str) -> VideoTask:
        """
        Poll for a video once. This costs nothing.

        :param settings: the connection.
        :param veo_task_id: the id that create returned.
        :raises VeoError: ``transient`` if polling again later may help.
        """
        api = settings.api
        video = api.read_video(await self._get(settings, api.query(veo_task_id)), veo_task_id, time.time())
        if request := api.needs_content(video):
            video = api.read_content(await self._get(settings, request), video, request)
        return video

    async def _get(self, settings: connection.VeoConnection, request: ApiRequest) -> Reply:
        try:
            return await self.send(settings, request)
        except TRANSPORT_ERRORS as error:
            raise settings.api.no_answer(VeoUnavailableError, request, error) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._resolver = CheckingResolver(self._check)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, keepalive_timeout=self._keepalive, resolver=self._resolver
                ),
                auto_decompress=False,  # the protocol decompresses, within its bounds
                headers=connection.HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                # With trust_env, ~/.netrc would replace the key.
                trust_env=False,
            )
        return self._session


def _encoded(url: str, request: ApiRequest) -> yarl.URL:
    """Return the URL with its parameters, encoded as requests encodes them: yarl would decode a part of an id again."""
    query = urlencode(request.params, quote_via=quote, safe="")
    return yarl.URL(f"{url}?{query}" if query else url, encoded=True)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read a body as far as it arrives, and at most a chunk past the limit."""
    body = bytearray()
    try:
        while len(body) <= responses.MAX_BODY_BYTES and (chunk := await response.content.readany()):
            body += chunk
    except aiohttp.ClientPayloadError:
        pass  # Truncated: the status decides what that means.
    except TRANSPORT_ERRORS:
        if response.status < 300:
            raise
        # The rest is late, but the status already says that it is not a success.
    return bytes(body)


def _ssl_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Trust the same certificates as requests: what one client submits, the other must be able to poll."""
    import ssl

    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    path = ca_bundle or str(DEFAULT_CA_BUNDLE_PATH)
    is_folder = os.path.isdir(path)
    return ssl.create_default_context(cafile=None if is_folder else path, capath=path if is_folder else None)


def _host(url: str) -> str:
    """Return the host of a URL as aiohttp resolves it, IDNA-encoded."""
    return (yarl.URL(url).raw_host or "").rstrip(".").lower()


def _proxy_of_the_environment(url: str) -> proxies.Proxy | None:
    parts = urlsplit(url)
    known = proxies.from_environment()
    if not known or proxy_bypass(parts.hostname or ""):
        return None
    for_all = known.get("all")
    return known.get(parts.scheme) or (for_all if for_all and for_all.is_http else None)


def usable_proxy(settings: connection.VeoConnection) -> proxies.Proxy | None:
    """
    Return the proxy for requests from an event loop.

    :raises VeoValidationError: it is not supported there.
    """
    if settings.proxy:
        proxy: proxies.Proxy | None = proxies.Proxy.parse(settings.proxy)
    else:
        proxy = _proxy_of_the_environment(settings.base_url)
    _refuse_all_but_http(proxy, settings)
    return proxy


def _refuse_all_but_http(proxy: proxies.Proxy | None, settings: connection.VeoConnection) -> None:
    """aiohttp treats every proxy as an HTTP proxy, and would send the key to any other kind."""
    if proxy is None or (proxy.is_http and proxy.is_valid):
        return
    where = "the connection's extra" if settings.proxy else "the environment"
    if proxy.is_http:
        mistake = f"proxy: expected a URL such as http://proxy.example.com:3128, but the one in {where} is not valid"
    else:
        mistake = f"proxy: batches and deferred waits need an http proxy, but {where} names one for {proxy.scheme}"
    raise VeoValidationError(f"The connection {settings.conn_id!r} can't be used here. Nothing was sent.", [mistake])
