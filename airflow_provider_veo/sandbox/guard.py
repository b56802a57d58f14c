"""
Protection against web pages: a page in the developer's browser can send requests to a loopback port.

Every request passes :class:`Guard` before it reaches the relay or the control endpoints. A refused request is not
recorded, triggers no fault and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from airflow_provider_veo.sandbox import forms
from airflow_provider_veo.sandbox.answers import envelope
from airflow_provider_veo.sandbox.control import PREFIX
from airflow_provider_veo.sandbox.delivery import Delivery
from airflow_provider_veo.sandbox.hosts import address, is_loopback, parse_host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from airflow_provider_veo.sandbox.answers import Answer

_HTTP_PORT = 80
PLAYED = ("/files/", "/redirected/files/")
"""Paths of videos, which pages of other sites may play."""
_OWN_SITES = ("same-origin", "none")
"""Values of `Sec-Fetch-Site` for requests not caused by another site. `none` is an address typed by the user."""


class Guard:
    """
    ASGI middleware that refuses requests made by web pages of other sites.

    :param app: The application behind it.
    :param bound: The host that the sandbox listens on. `Host` may always be a loopback name or address. If `bound` is
        a wildcard such as `0.0.0.0`, `Host` may also be any IP address: a page can point a name of its own at this
        machine (DNS rebinding), but not an address.
    :param port: The port that the sandbox listens on.
    :param allowed: Additional values of `Host`, each `HOST[:PORT]`. The default port is `port`.
    :raises ValueError: One of `allowed` is invalid.
    """

    def __init__(self, app: ASGIApp, bound: str, port: int, allowed: Iterable[str] = ()) -> None:
        self._app = app
        self._port = port
        own = address(bound)
        self._any_address = own is not None and own.is_unspecified
        self._allowed = {(bound.lower() if own is None else str(own), port)}
        for each in allowed:
            host, own_port = parse_host(each)
            self._allowed.add((host, port if own_port is None else own_port))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await Delivery(refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Answer | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._accepts(hosts[0]):
            named = repr(hosts[0]) if len(hosts) == 1 else f"{len(hosts)} values"
            return envelope(
                421,
                f"The sandbox does not accept the Host header: got {named}. "
                "Use its loopback address and port, or start it with --allow-host HOST:PORT",
            )
        origins = headers.getlist("origin")
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return envelope(403, f"The sandbox does not accept requests from another origin: got {origins[0]!r}")
        if not scope["path"].startswith(PLAYED):
            sites = headers.getlist("sec-fetch-site")
            if any(site not in _OWN_SITES for site in sites):
                return envelope(403, f"The sandbox does not accept requests from another site: got {sites[0]!r}")
        if scope["path"].startswith(PREFIX):
            return self._control_refusal(scope["method"], headers)
        return None

    def _accepts(self, header: str) -> bool:
        try:
            host, port = parse_host(header)
        except ValueError:
            return False
        port = port or _HTTP_PORT
        if (host, port) in self._allowed:
            return True
        return port == self._port and (is_loopback(host) or (self._any_address and address(host) is not None))

    def _control_refusal(self, method: str, headers: Headers) -> Answer | None:
        content_type = forms.content_type(headers)
        if method == "POST" and content_type != "application/json":
            return envelope(415, f"Content-Type must be application/json, got {content_type!r}")
        return None
