"""Reads an Airflow connection of type ``veo``: every field is checked, all mistakes are reported together.

The API key is in no ``repr``.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow import __version__ as airflow_version

from airflow_provider_veo import __version__
from airflow_provider_veo.net import addresses, proxies
from airflow_provider_veo.protocol import VeoUnavailableError, VeoValidationError, coerce, prices
from airflow_provider_veo.protocol.forms import APIS
from airflow_provider_veo.protocol.text import did_you_mean, shortened
from airflow_provider_veo.protocol.unified import UnifiedApi

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_veo.protocol.api import Api
    from airflow_provider_veo.protocol.models import VeoModel
    from airflow_provider_veo.protocol.prices import Price

HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # a compressed answer has no size until it is decompressed
    "User-Agent": f"airflow-provider-veo/{__version__} apache-airflow/{airflow_version}",
}
"""Headers of every request. The key is not among them: it is added to each request separately."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
DEFAULT_HOST = "https://az.gptplus5.com"
"""seed: the host of the API document."""


@dataclass(frozen=True)
class Account:
    """
    An account at a relay. It stays the same when its key is rotated or the relay's URL changes.

    :param name: the connection's extra ``account``, or else its id.
    :param base_url: the relay's URL, which earlier versions recorded as part of the account.
    """

    name: str
    base_url: str = ""

    @property
    def earlier(self) -> str:
        """What earlier versions recorded."""
        return f"{self.name} at {self.base_url}"


@dataclass(frozen=True)
class VeoConnection:
    """
    The validated settings of a connection.

    :param conn_id: its id in Airflow.
    :param base_url: scheme, host and port of the relay, and a path if it has one, without ``/v1``.
    :param api_key: the key, without ``Bearer``.
    :param form: the form of the API that the relay speaks.
    :param account: name of the billed account, if several connections share it.
    :param default_model: used if a task names no model.
    :param catalog: the models to choose from, the connection's ``models`` included.
    :param prices: price of a video by model, in any currency.
    :param on_cleared: ``"submit"`` or ``"fail"``, for tasks that were cleared and whose record is gone.
    :param connect_timeout: seconds.
    :param read_timeout: seconds without any data, or until the body is complete.
    :param proxy: URL of a proxy for both schemes, with its user info. Clients get it through
        :class:`airflow_provider_veo.net.proxies.Proxy`, which separates the user info.
    :param ca_bundle: path of a CA bundle, a file or a folder; ``None`` for the one that requests comes with.
    :param allow_insecure_http: send the key over plain http to a public address.
    :param allow_private_media: fetch video files from private addresses.
    """

    conn_id: str
    base_url: str
    api_key: str = field(repr=False)
    form: type[Api] = UnifiedApi
    account: str | None = None
    default_model: str | None = None
    catalog: Mapping[str, VeoModel] = field(default_factory=lambda: UnifiedApi.models, repr=False)
    prices: Mapping[str, Price] = field(default_factory=dict)
    on_cleared: str = "submit"
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    allow_insecure_http: bool = False
    allow_private_media: bool = False

    @property
    def billed(self) -> Account:
        """The account billed for submissions with this connection."""
        return Account(self.account or self.conn_id, self.base_url)

    def price_of(self, body: Mapping[str, Any]) -> Decimal | None:
        """Return the price of the video that a request asks for; ``None`` if it is not known."""
        price = self.prices.get(body["model"])
        return price.of_video(body) if price else None

    @cached_property
    def api(self) -> Api:
        """The relay's API: which requests to send, and how to read the answers."""
        return self.form(self.base_url, self.secrets)

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Strings that no message may contain: the key, and the credentials of this and the environment's proxies."""
        known = list(proxies.from_environment().values())
        if self.proxy:
            known.append(proxies.Proxy.parse(self.proxy))
        return tuple(dict.fromkeys([self.api_key, *(secret for proxy in known for secret in proxy.secrets)]))


def read(connection: Connection) -> VeoConnection:
    """
    Read an Airflow connection.

    :raises VeoValidationError: naming every mistake, but no value of a secret field.
    """
    extra = _Extra(connection.extra_dejson)
    base_url = extra.checked("host", lambda: _base_url(connection))
    api_key = extra.checked("password", lambda: _api_key(connection.password))
    form = extra.get("api", _form, UnifiedApi) or UnifiedApi
    settings = VeoConnection(
        conn_id=str(connection.conn_id),
        base_url=base_url or DEFAULT_HOST,
        api_key=api_key or "",
        form=form,
        account=extra.get("account", _text, None),
        default_model=extra.get("default_model", _text, None),
        catalog=extra.get("models", lambda value: form.models.extended(_object(value)), form.models),
        prices=extra.get("prices", lambda value: prices.read(_object(value)), {}) or {},
        on_cleared=extra.get("on_cleared", _on_cleared, "submit"),
        connect_timeout=extra.get("connect_timeout", _seconds, 10.0),
        read_timeout=extra.get("read_timeout", _seconds, 60.0),
        proxy=extra.get("proxy", _proxy, None),
        ca_bundle=extra.get("ca_bundle", _text, None) or _ca_bundle_of_the_environment(),
        allow_insecure_http=extra.get("allow_insecure_http", _boolean, False),
        allow_private_media=extra.get("allow_private_media", _boolean, False),
    )
    extra.refuse_unknown()
    if extra.mistakes:
        raise VeoValidationError(
            f"The connection {connection.conn_id!r} is not valid. Nothing was sent. "
            "Fix it in Admin > Connections, or wherever the connection is defined.",
            extra.mistakes,
        )
    return settings


class _Extra:
    """The fields of ``extra``, and the mistakes found while reading them."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        self.mistakes: list[str] = []
        self._known: list[str] = []

    def get(self, name: str, convert: Callable[[Any], Any], default: Any) -> Any:
        """Convert a field. A blank field is treated as missing."""
        self._known.append(name)
        value = self.fields.get(name)
        if coerce.is_nothing(value):
            return default
        return self.checked(name, lambda: convert(value))

    def refuse_unknown(self) -> None:
        """Report the fields that nothing has read. Their values are not repeated: a misspelled one may be a secret."""
        for name in self.fields:
            if name not in self._known:
                known = f"Known fields: {', '.join(sorted(self._known))}"
                hint = " ".join(filter(None, (did_you_mean(name, self._known), known)))
                self.mistakes.append(f"{shortened(name, 60)}: unknown field; {hint}")

    def checked(self, name: str, convert: Callable[[], Any]) -> Any:
        try:
            return convert()
        except VeoValidationError as error:
            self.mistakes += error.mistakes
        except ValueError as error:
            self.mistakes.append(f"{name}: {error}")
        return None


def _base_url(connection: Connection) -> str:
    """Accept every form that people write a base URL in; see the README."""
    host = (connection.host or "").strip() or DEFAULT_HOST
    schema = (connection.schema or "").strip().lower()
    if "://" not in host:
        host = f"{schema or 'https'}://{host}"
    url = urlsplit(host)
    scheme = url.scheme.lower()
    if _has_more_than_a_base(url):
        raise ValueError("expected a host or a base URL, without user, password, query or fragment")
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"expected http or https, got {url.scheme!r}")
    _refuse_conflict("schema", scheme, schema)
    name = url.hostname
    if not name or re.search(r"[\s\\^`{}|<>\"]", host):
        raise ValueError(f"no host name in {host!r}")
    _refuse_conflict("port", url.port, connection.port)
    port = url.port or connection.port
    path = re.sub(r"/v1$", "", url.path.rstrip("/")).rstrip("/")
    return f"{scheme}://{_host_and_port(name, None if port == _DEFAULT_PORTS[scheme] else port)}{path}"


def _host_and_port(name: str, port: int | None) -> str:
    host = f"[{name}]" if ":" in name else name
    return f"{host}:{port}" if port else host


def _has_more_than_a_base(url: SplitResult) -> bool:
    return url.username is not None or url.password is not None or bool(url.query or url.fragment)


def _refuse_conflict(field_name: str, in_host: str | int | None, in_field: str | int | None) -> None:
    if in_host and in_field and in_host != in_field:
        raise ValueError(f"the URL says {field_name} {in_host}, but the {field_name} field says {in_field}")


def _api_key(password: str | None) -> str:
    key = re.sub(r"^Bearer\s+", "", (password or "").strip(), flags=re.IGNORECASE)
    if not key or key.lower() == "bearer":
        raise ValueError("the API key is missing; put the relay's key into the password field")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("the API key has an invalid character (a space, a line break, a non-ASCII letter)")
    return key


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {value!r}")
    return value.strip()


def _form(value: Any) -> type[Api]:
    name = value.strip().lower() if isinstance(value, str) else ""
    if name not in APIS:
        raise ValueError(f"expected one of {', '.join(APIS)}, got {value!r:.60}")
    return APIS[name]


def _boolean(value: Any) -> bool:
    meant = coerce.boolean(value)
    if not isinstance(meant, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return meant


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf or isinstance(value, bool):
        raise ValueError(f"expected a number of seconds above 0, got {value!r}")
    return seconds


def _object(value: Any) -> Mapping[str, Any]:
    """Forms save an object in Airflow 3 and a string in Airflow 2."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"expected a JSON object: {error}") from None
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a JSON object, got {value!r}")
    return value


def _on_cleared(value: Any) -> str:
    choice = _text(value)
    if choice not in ("submit", "fail"):
        raise ValueError(f"expected 'submit' or 'fail', got {value!r}")
    return choice


def _ca_bundle_of_the_environment() -> str | None:
    """Return the CA bundle that requests takes from the environment, so that aiohttp uses it too."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


def _proxy(value: Any) -> str:
    """Errors don't repeat the value: it may contain a password."""
    if isinstance(value, str) and "://" in value:
        proxy = proxies.Proxy.parse(value)
        if proxy.is_valid and proxy.scheme in ("http", "https", "socks5", "socks5h"):
            return value.strip()
    raise ValueError("expected a URL such as http://proxy.example.com:3128")


def refuse_plain_http_to_the_public(settings: VeoConnection) -> None:
    """
    Refuse to send the key over plain http, except to a loopback or private address. Blocks: it resolves the host.

    :raises VeoValidationError: an address of the host is public.
    :raises VeoUnavailableError: the host can't be resolved.
    """
    url = urlsplit(settings.base_url)
    if url.scheme == "https" or settings.allow_insecure_http:
        return
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(url.hostname, None)}
    except OSError as error:
        raise VeoUnavailableError(
            f"The relay's host {url.hostname!r} can't be resolved: {error}\nNothing was sent. It is safe to retry."
        ) from error
    refuse_public_addresses(settings, found)


def refuse_public_addresses(settings: VeoConnection, found: Iterable[str]) -> None:
    """
    Refuse to send the key over plain http to any of these addresses of the relay's host.

    :param found: numeric addresses, any of which the client may use.
    :raises VeoValidationError: one of them is public.
    """
    if settings.base_url.startswith("https:") or settings.allow_insecure_http:
        return
    public = sorted(address for address in found if not _is_private(address))
    if public:
        raise VeoValidationError(
            f"The connection {settings.conn_id!r} is not valid. Nothing was sent.",
            [
                f"host: {settings.base_url} is plain http to a public address ({public[0]}): anyone on the network "
                "path could read the API key. Use https, or set allow_insecure_http in the connection's extra"
            ],
        )


def _is_private(address: str) -> bool:
    ip = addresses.plain(address)
    return ip.is_loopback or ip.is_private
