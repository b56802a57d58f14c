"""The hook for triggers. It only polls: it can't submit a video.

All triggers of a process that use the same connection share a :class:`_Client`, with its pooled sockets and settings,
as long as any of them needs it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import BaseHook
from asgiref.sync import sync_to_async

from airflow_provider_veo import connection
from airflow_provider_veo.compat import mask_secret
from airflow_provider_veo.hooks.exchange import Exchange
from airflow_provider_veo.protocol import (
    VeoAuthenticationError,
    VeoError,
    VeoUnavailableError,
    VideoTask,
)

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 20
"""Maximum number of concurrent polls per process and connection. Others wait."""
LOOK_UP_SECONDS = 300.0
"""Seconds after which a connection is looked up again: its key may have been rotated."""


class VeoAsyncHook(BaseHook):
    """
    Poll a Veo relay from an event loop, with the key of an Airflow connection.

    ``async with VeoAsyncHook() as hook`` keeps the shared client open until the block ends. Outside of one, each poll
    opens a client of its own if none is open.

    :param veo_conn_id: id of a connection of type ``veo``.
    """

    conn_name_attr = "veo_conn_id"
    default_conn_name = "veo_default"
    conn_type = "veo"
    hook_name = "Veo"

    def __init__(self, veo_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.veo_conn_id = veo_conn_id

    async def __aenter__(self) -> VeoAsyncHook:
        clients = _clients.setdefault(asyncio.get_running_loop(), {})
        client = clients.setdefault(self.veo_conn_id, _Client(self.veo_conn_id))
        client.users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        clients = _clients[asyncio.get_running_loop()]
        client = clients[self.veo_conn_id]
        client.users -= 1
        if not client.users:
            del clients[self.veo_conn_id]
            await client.close()

    async def get_video(self, veo_task_id: str) -> VideoTask:
        """
        Poll for a video once. This costs nothing.

        :param veo_task_id: the id that create returned.
        :raises VeoError: ``transient`` if polling again later may help.
        """
        async with self:
            client = _clients[asyncio.get_running_loop()][self.veo_conn_id]
            started = time.monotonic()
            settings = await client.settings()
            try:
                return await client.poll(settings, veo_task_id)
            except VeoAuthenticationError:
                # The key may have been rotated since it was looked up.
                renewed = await client.settings(not_before=started)
                if renewed.api_key == settings.api_key:
                    raise
                return await client.poll(renewed, veo_task_id)


class _Client:
    """Shared by all triggers of an event loop that use the same connection."""

    def __init__(self, veo_conn_id: str) -> None:
        self.users = 0
        self._veo_conn_id = veo_conn_id
        self._settings: connection.VeoConnection | None = None
        self._looked_up_at = 0.0
        self._looking_up = asyncio.Lock()
        self._exchange = Exchange(MAX_CONNECTIONS)

    async def close(self) -> None:
        await self._exchange.close()

    async def settings(self, not_before: float | None = None) -> connection.VeoConnection:
        """
        Return the connection, looked up again if the last lookup is too old.

        :param not_before: monotonic seconds; a lookup before this is repeated.
        :raises VeoValidationError: it is not valid.
        :raises VeoUnavailableError: it can't be looked up.
        """
        async with self._looking_up:
            now = time.monotonic()
            oldest = now - LOOK_UP_SECONDS if not_before is None else not_before
            if self._settings is None:
                self._settings, self._looked_up_at = await self._look_up(), now
            elif self._looked_up_at < oldest:
                self._looked_up_at = now
                try:
                    self._settings = await self._look_up()
                except VeoError as error:
                    # It worked before. The secrets backend may be down, or an edit in progress: no reason to end waits.
                    log.warning("Continuing with the previous settings of the connection: %s", error)
            return self._settings

    async def _look_up(self) -> connection.VeoConnection:
        try:
            # On Airflow 3.0 and 3.1, only a thread of asgiref's can call the triggerer's main process. On 3.1 to 3.3.1,
            # a lookup from the event loop masks secrets in a way that may deadlock.
            return await sync_to_async(self._read, thread_sensitive=False)()
        except VeoError:
            raise
        except Exception as error:
            # Airflow reports a secrets backend that is down as a missing connection.
            raise VeoUnavailableError(
                f"The connection {self._veo_conn_id!r} can't be looked up: {type(error).__name__}: {error}"
            ) from error

    def _read(self) -> connection.VeoConnection:
        settings = connection.read(BaseHook.get_connection(self._veo_conn_id))
        for secret in settings.secrets:
            mask_secret(secret)
        self._exchange.prepare(settings)
        return settings

    async def poll(self, settings: connection.VeoConnection, veo_task_id: str) -> VideoTask:
        return await self._exchange.poll(settings, veo_task_id)


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Client]] = WeakKeyDictionary()
