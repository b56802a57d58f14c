"""
The hook of a batch's worker: many concurrent requests from one event loop.

It submits, so it is for workers only: nothing that a triggerer loads may import it. Each call sends a create once; the
caller decides whether it may be sent again.
"""

from __future__ import annotations

import asyncio
import io
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from airflow_provider_veo.hooks.exchange import TRANSPORT_ERRORS, Exchange
from airflow_provider_veo.hooks.uploads import Prepared, prepare
from airflow_provider_veo.net.proxies import ProxyRefusedError
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoUnavailableError,
    VeoValidationError,
    payload,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeVar

    from aiohttp.abc import AbstractStreamWriter

    from airflow_provider_veo.connection import VeoConnection
    from airflow_provider_veo.hooks.sync import VeoHook
    from airflow_provider_veo.protocol import VideoTask

    _T = TypeVar("_T")

_KEEPALIVE_SECONDS = 1.0
"""A server may close an idle socket just as a create is written to it, which leaves its outcome unknown. Some do so
after as little as two seconds."""


class VeoBatchHook:
    """
    Submits and polls videos, each request once.

    :param hook: reads the connection, in this thread: Airflow's supervisor must not be called from an event loop.
    :param connections: maximum number of concurrent requests.
    """

    def __init__(self, hook: VeoHook, connections: int) -> None:
        self._hook = hook
        self._exchange = Exchange(connections, keepalive=_KEEPALIVE_SECONDS)
        self._settings = self._prepared()

    @property
    def settings(self) -> VeoConnection:
        """The connection. It was checked before anything is sent to it."""
        return self._settings

    async def close(self) -> None:
        """Close the sockets."""
        await self._exchange.close()

    async def prepare(self, body: Mapping[str, Any]) -> Prepared:
        """
        Do everything for a create that costs nothing, such as fetching images.

        :param body: from :func:`airflow_provider_veo.protocol.payload.build`. It is validated again.
        :raises VeoValidationError: it can never be sent.
        :raises VeoImageError: an image, which this relay takes as a file, can't be fetched now.
        """
        payload.check(body, catalog=self.settings.catalog)
        request = self.settings.api.create(body)
        if request.files:
            return await asyncio.to_thread(prepare, request, self.settings)
        return prepare(request, self.settings)

    async def submit(self, prepared: Prepared, make_sure: Callable[[], None] | None = None) -> VideoTask:
        """
        Submit a video once. This is the call that costs money.

        :param prepared: from :meth:`prepare`.
        :param make_sure: called once connected, before the first byte of the body is sent. If it raises, the error is
            propagated and nothing is sent.
        :raises VeoAmbiguousSubmitError: it may have been accepted.
        :raises VeoError: of another kind: it was not accepted.
        """
        return await self._with_a_rotated_key(lambda: self._create(prepared, make_sure))

    async def get_video(self, veo_task_id: str) -> VideoTask:
        """
        Poll for a video once. This costs nothing.

        :param veo_task_id: the id that create returned.
        :raises VeoError: ``transient`` if polling again later may help.
        """
        return await self._with_a_rotated_key(lambda: self._exchange.poll(self.settings, veo_task_id))

    async def _create(self, prepared: Prepared, make_sure: Callable[[], None] | None) -> VideoTask:
        body = _Outgoing(io.BytesIO(prepared.content), content_type=prepared.content_type)
        body.make_sure = make_sure
        settings, api, request = self.settings, self.settings.api, prepared.request
        try:
            reply = await self._exchange.send(settings, request, body)
        except ProxyRefusedError as error:
            raise api.no_answer(VeoUnavailableError, request, error) from error
        except Exception as error:
            if body.refusal:
                raise body.refusal from None
            if body.was_sent:
                # Whatever the error: the request may have been sent, and its outcome is unknown.
                raise api.no_answer(VeoAmbiguousSubmitError, request, error) from error
            if isinstance(error, TRANSPORT_ERRORS):
                raise api.no_answer(VeoUnavailableError, request, error) from error
            raise
        finally:
            body.send_no_more()
        return api.read_created(reply, time.time())

    async def _with_a_rotated_key(self, send: Callable[[], Awaitable[_T]]) -> _T:
        """Resend a request refused for its key, if the connection has a new key now."""
        before = self.settings.api_key
        try:
            return await send()
        except VeoAuthenticationError as refused:
            if self.settings.api_key == before:  # otherwise another request has looked it up
                self._look_up_again(refused)
            if self.settings.api_key == before:
                raise
        return await send()

    def _look_up_again(self, refused: VeoAuthenticationError) -> None:
        before = self._settings.form
        try:
            self._hook.look_up_again()
            if self._hook.settings.form is not before:
                # The requests were made for the other form, and so were the ids of the videos in flight.
                raise VeoValidationError("Its API changed while videos were in flight.")
            self._settings = self._prepared()
        except Exception as error:  # whatever is wrong: the known key is refused
            raise refused.adding(f"The connection was looked up again and can't be used: {error}") from error

    def _prepared(self) -> VeoConnection:
        settings = self._hook.settings
        self._exchange.prepare(settings)
        return settings


class _Outgoing(aiohttp.BytesIOPayload):
    """A request body that records whether any of it was sent: if not, the relay can't have accepted it."""

    was_sent = False
    make_sure: Callable[[], None] | None = None
    refusal: Exception | None = None
    """What :attr:`make_sure` raised."""
    _transport: asyncio.Transport | None = None

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._begin(writer)
        await super().write(writer)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._begin(writer)
        await super().write_with_length(writer, content_length)

    def send_no_more(self) -> None:
        """
        Discard what is still buffered for a closed socket.

        It would be sent as soon as the relay reads on, and a create abandoned long ago would be accepted.
        """
        if self._transport is not None and self._transport.is_closing():
            self._transport.abort()

    def _begin(self, writer: AbstractStreamWriter) -> None:
        if self.make_sure:
            try:
                self.make_sure()
            except Exception as error:
                self.refusal = error
                raise
        self.was_sent = True
        self._transport = getattr(writer, "transport", None)
