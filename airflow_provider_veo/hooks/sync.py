"""The hook for tasks.

Two invariants. A create is resent only if the relay certainly did not accept it. The API key is sent only in the
``Authorization`` header of requests to the connection's own base URL.
"""

from __future__ import annotations

import io
import random
import time
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, TypeVar

import tenacity
import urllib3
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseHook

from airflow_provider_veo import connection
from airflow_provider_veo.compat import mask_secret
from airflow_provider_veo.hooks.uploads import Prepared, prepare
from airflow_provider_veo.net.adapter import GuardedAdapter, host_of
from airflow_provider_veo.net.addresses import same_host
from airflow_provider_veo.net.proxies import ProxyRefusedError
from airflow_provider_veo.net.session import TRANSPORT_ERRORS, Bearer, Session
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoError,
    VeoRateLimitError,
    VeoUnavailableError,
    VeoValidationError,
    VeoWrongHostError,
    VideoTask,
    payload,
    responses,
)
from airflow_provider_veo.protocol.api import ApiRequest, Reply
from airflow_provider_veo.protocol.text import first_line
from airflow_provider_veo.protocol.waiting import Wait, log_no_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import requests


_KEEPALIVE_SECONDS = 1.0
"""A create never reuses a socket idle for longer: the relay may be closing it, which leaves the outcome unknown."""
_MAX_ATTEMPTS = 5
_MAX_SECONDS = 60.0
"""Maximum attempts and total seconds for one call whose request is safe to resend."""

_CHUNK_BYTES = 65536
_T = TypeVar("_T")


class VeoHook(BaseHook):
    """
    Talk to a Veo relay with the key of an Airflow connection.

    :param veo_conn_id: id of a connection of type ``veo``.
    """

    conn_name_attr = "veo_conn_id"
    default_conn_name = "veo_default"
    conn_type = "veo"
    hook_name = "Veo"

    def __init__(self, veo_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.veo_conn_id = veo_conn_id
        self.nothing_sent = True
        """Whether the last create certainly left nothing at the relay, whatever ended it."""
        self.is_answered = False
        """Whether the last create got an answer, which may contain an id recorded nowhere else."""
        self._used_at = 0.0

    @cached_property
    def settings(self) -> connection.VeoConnection:
        """
        The connection, read once.

        :raises VeoValidationError: naming every mistake in it.
        """
        settings = connection.read(self.get_connection(self.veo_conn_id))
        for secret in settings.secrets:
            mask_secret(secret)
        return settings

    def look_up_again(self) -> None:
        """
        Read the connection again: its key may have been rotated. If it can't be read, the previous one stays in use.

        :raises VeoValidationError: the connection is not valid.
        """
        before = self.__dict__.pop("settings", None)
        try:
            self.settings  # noqa: B018  it is read and cached
        except Exception as error:
            # Airflow reports a secrets backend that is down as a missing connection.
            if before is None or isinstance(error, VeoValidationError):
                raise
            self.log.warning("Continuing with the previous settings of the connection: %s", error)
            self.__dict__["settings"] = before

    @cached_property
    def _session(self) -> requests.Session:
        session = Session()
        session.headers.update(connection.HEADERS)
        for scheme in ("http://", "https://"):
            session.mount(scheme, self._adapter)
        return session

    @cached_property
    def _adapter(self) -> GuardedAdapter:
        return GuardedAdapter(self._check, self._check_proxied)

    def _check(self, host: str, addresses: Iterable[str]) -> None:
        """Refuse a public address of the relay's host if the key would be sent over plain http."""
        if same_host(host, host_of(self.settings.base_url)):
            connection.refuse_public_addresses(self.settings, addresses)

    def _check_proxied(self, url: str) -> None:
        """The same for a proxied request: only the lookup can be checked."""
        if same_host(host_of(url), host_of(self.settings.base_url)):
            connection.refuse_plain_http_to_the_public(self.settings)

    def get_conn(self) -> requests.Session:
        """Return the pooled session, without the key: this hook adds it to each of its requests."""
        return self._session

    def close(self) -> None:
        """Close the pooled connections. The next request opens new ones."""
        if session := self.__dict__.pop("_session", None):
            session.close()
        self.__dict__.pop("_adapter", None)

    def create_video(self, body: Mapping[str, Any]) -> VideoTask:
        """
        Submit a video. This is the call that costs money.

        It is resent only if the relay certainly did not accept it: the relay was not reached, or refused for now (5xx
        with an error envelope, 429 with a ``Retry-After``). At most 5 attempts and 60 s in total.

        :param body: from :func:`airflow_provider_veo.protocol.payload.build`. It is validated again.
        :return: the accepted video. Its ``id`` is the only reference to it.
        :raises VeoValidationError: nothing was sent.
        :raises VeoImageError: nothing was sent. An image, which this relay takes as a file, can't be fetched now.
        :raises VeoAmbiguousSubmitError: it may have been accepted. Check at the relay before sending it again.
        :raises VeoError: of another kind: it was not accepted.
        """
        return self.submit(self.prepare(body))

    def prepare(self, body: Mapping[str, Any]) -> Prepared:
        """
        Do everything for a create that costs nothing, such as fetching images. See :meth:`create_video`.

        :param body: the body.
        """
        payload.check(body, catalog=self.settings.catalog)
        return prepare(self.settings.api.create(body), self.settings)

    def submit(self, prepared: Prepared) -> VideoTask:
        """
        Send a create. This is the call that costs money. See :meth:`create_video`.

        :param prepared: from :meth:`prepare`.
        """
        self.nothing_sent, self.is_answered = True, False
        return self._retry_if(_safe_to_send_again, lambda: self._create_once(prepared))

    def get_video(self, veo_task_id: str) -> VideoTask:
        """
        Poll for a video. This costs nothing. Transient errors are retried: at most 5 attempts and 60 s in total.

        :param veo_task_id: the id that ``create_video`` returned.
        :raises VeoNotFoundError: the relay doesn't know it; right after a create, perhaps not *yet*.
        :raises VeoError: the poll failed.
        """
        return self._retry_if(lambda error: error.transient, lambda: self._get_once(veo_task_id))

    def wait_for_video(
        self, veo_task_id: str, poll_interval: float = 15, timeout: float = 3600, *, started: float | None = None
    ) -> VideoTask:
        """
        Block until a video is ready. Transient errors are retried.

        :param veo_task_id: the id that ``create_video`` returned.
        :param poll_interval: seconds between two polls; longer in a long wait or after a ``Retry-After``.
        :param timeout: seconds.
        :param started: epoch seconds from which the timeout counts. Default: now.
        :return: the video, with its ``video_url``.
        :raises VeoGenerationFailedError: the relay could not generate it.
        :raises VeoTimeoutError: it was not ready in time. It is still being generated and will be billed.
        :raises VeoError: polling can't help (a bad key, an unknown id …).
        """
        wait = Wait(veo_task_id, started or time.time(), timeout, poll_interval)
        while (video := self.poll(wait)) is None:
            time.sleep(wait.seconds_to_next(time.time(), random.random()))  # noqa: S311  jitter
        return video

    def poll(self, wait: Wait) -> VideoTask | None:
        """
        Poll once for the video of a wait, and log what is new.

        :param wait: the wait, which is updated.
        :return: the video, or ``None`` if it is not ready yet.
        :raises VeoError: polling again can't help.
        """
        try:
            video = self._get_once(wait.veo_task_id)
        except VeoError as error:
            wait.got_no_answer(error, time.time())
            log_no_answer(self.log, wait.veo_task_id, error)
            return None
        return wait.answered(video, self.log)

    def test_connection(self) -> tuple[bool, str]:
        """Check host and key by listing the key's models. Nothing is submitted or billed."""
        try:
            names = self._models()
        except VeoValidationError as error:
            return False, str(error)
        except VeoAuthenticationError as error:
            return False, f"The relay answers, but does not accept the API key. {first_line(error)}"
        except VeoWrongHostError as error:
            return False, self._not_a_relay(error)
        except VeoUnavailableError as error:
            return False, f"{self.settings.base_url} can't be reached. {first_line(error)} Check host, port and proxy."
        except VeoError as error:
            return False, self._not_a_relay(error)
        finally:
            self.close()
        veo = sorted(name for name in names if "veo" in name.lower())
        found = f"{len(veo)} of them Veo: {', '.join(veo[:20])}" if veo else "none of them Veo"
        return True, f"{self.settings.base_url} accepts the key, which may use {len(names)} models, {found}."

    def _not_a_relay(self, error: VeoError) -> str:
        return f"{self.settings.base_url} answers, but not as a Veo relay does. {first_line(error)} Check the host."

    def _create_once(self, prepared: Prepared) -> VideoTask:
        api, request = self.settings.api, prepared.request
        body = _Outgoing(prepared.content)
        body.begins = self._begin_to_send
        if time.monotonic() - self._used_at > _KEEPALIVE_SECONDS:
            self._adapter.close()
        try:
            return api.read_created(self._exchange(request, body, prepared.content_type), time.time())
        except VeoError as error:
            self._ended_without_a_video(isinstance(error, VeoAmbiguousSubmitError))
            raise
        except ProxyRefusedError as error:
            self._ended_without_a_video(False)
            raise api.no_answer(VeoUnavailableError, request, error) from error
        except (Exception, AirflowTaskTimeout) as error:
            self._ended_without_a_video(body.was_read)
            if body.was_read:
                # Whatever the error: the request may have been sent, and its outcome is unknown.
                raise api.no_answer(VeoAmbiguousSubmitError, request, error) from error
            if isinstance(error, TRANSPORT_ERRORS):
                raise api.no_answer(VeoUnavailableError, request, error) from error
            raise

    def _begin_to_send(self) -> None:
        self.nothing_sent = False

    def _ended_without_a_video(self, may_be_accepted: bool) -> None:
        self.nothing_sent, self.is_answered = not may_be_accepted, False

    def _get_once(self, veo_task_id: str) -> VideoTask:
        api = self.settings.api
        video = api.read_video(self._get(api.query(veo_task_id)), veo_task_id, time.time())
        if request := api.needs_content(video):
            video = api.read_content(self._get(request), video, request)
        return video

    def _models(self) -> list[str]:
        api = self.settings.api
        return api.read_models(self._get(api.models_request()))

    def _get(self, request: ApiRequest) -> Reply:
        try:
            return self._exchange(request)
        except TRANSPORT_ERRORS as error:
            raise self.settings.api.no_answer(VeoUnavailableError, request, error) from error

    def _exchange(self, request: ApiRequest, data: IO[bytes] | None = None, content_type: str | None = None) -> Reply:
        """Send one request and read its answer. Raises only if there is no answer."""
        settings = self.settings
        session = self._session
        total = settings.connect_timeout + 2 * settings.read_timeout
        with (
            self._adapter.ended_after(total),
            session.request(
                request.method,
                settings.api.url(request),
                params=request.params,
                headers={**request.headers, **({"Content-Type": content_type} if content_type else {})},
                data=data,
                # Without an auth object, requests prefers ~/.netrc to our header. Proxy and CA bundle are passed with
                # each request, since the environment overrides those of a session.
                auth=Bearer(settings.api_key),
                proxies={"http": settings.proxy, "https": settings.proxy} if settings.proxy else None,
                verify=settings.ca_bundle or True,
                timeout=(settings.connect_timeout, settings.read_timeout),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            self.is_answered = data is not None
            self._used_at = time.monotonic()
            return Reply(response.status_code, response.headers, _read(response, settings.read_timeout))

    def _retry_if(self, may_retry: Callable[[VeoError], bool], send: Callable[[], _T]) -> _T:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, VeoError) and may_retry(error)),
            stop=tenacity.stop_after_attempt(_MAX_ATTEMPTS) | tenacity.stop_before_delay(_MAX_SECONDS),
            wait=_seconds_to_wait,
            before_sleep=self._log_retry,
            reraise=True,
        )(send)

    def _log_retry(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self.log.warning(
            "Attempt %d of %d failed; next attempt in %.1f s: %s",
            state.attempt_number,
            _MAX_ATTEMPTS,
            state.upcoming_sleep,
            first_line(error),
        )

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's fields, for Airflow versions that don't read them from the provider info."""
        from airflow_provider_veo.connection.form import connection_form_widgets

        return connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows the standard fields, for Airflow versions that don't read the provider info."""
        from airflow_provider_veo.connection.form import ui_field_behaviour

        return ui_field_behaviour()


class _Outgoing(io.BytesIO):
    """A request body that records whether any of it was sent: if not, the relay can't have accepted it."""

    was_read = False
    begins: Callable[[], None] = staticmethod(lambda: None)

    def read(self, size: int | None = -1, /) -> bytes:
        self.was_read = True
        self.begins()
        return super().read(size)


def _read(response: requests.Response, seconds: float) -> bytes:
    """
    Read what arrives of a body in time, and at most a chunk past the limit.

    A truncated body is returned too: the status decides what that means.
    """
    body = bytearray()
    deadline = time.monotonic() + seconds
    try:
        while len(body) <= responses.MAX_BODY_BYTES and time.monotonic() < deadline:
            # read1 returns what has arrived; read would wait for a full chunk, however slowly it drips in.
            chunk = response.raw.read1(_CHUNK_BYTES, decode_content=False)
            if not chunk:
                break
            body += chunk
    except (urllib3.exceptions.HTTPError, OSError):
        pass
    return bytes(body)


def _safe_to_send_again(error: VeoError) -> bool:
    """Whether a failed create was certainly not accepted and may be resent."""
    if isinstance(error, VeoRateLimitError):
        return error.retry_after is not None
    return isinstance(error, VeoUnavailableError) and not isinstance(error, VeoWrongHostError)


_backoff = tenacity.wait_exponential_jitter(initial=1, max=20, jitter=1)


def _seconds_to_wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_for = getattr(error, "retry_after", None) or 0.0
    return max(asked_for, _backoff(state))
