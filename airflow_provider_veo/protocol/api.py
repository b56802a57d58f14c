"""
What the forms of a relay's API have in common: :class:`Api`.

A form says which requests to send. Their answers are read alike, since relays mix the forms' shapes. Nothing outside
this package and the connection's settings knows which form is in use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow_provider_veo.protocol import responses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_veo.protocol.errors import VeoError
    from airflow_provider_veo.protocol.models import Catalog
    from airflow_provider_veo.protocol.video import VideoTask

_FOR_NOW = frozenset({408, 425, 429, 502, 503, 504})
MODELS_PATH = "/v1/models"  # family


class Reply(NamedTuple):
    """An answer as received: its status, its headers, and its body, which may be truncated."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class ApiRequest:
    """
    A request to the relay, without the key.

    :param method: HTTP method.
    :param path: path below the base URL.
    :param params: query parameters, not encoded yet.
    :param headers: in addition to those of every request.
    :param fields: body: a JSON object, or the text fields of a form if there are ``files``. ``None`` for no body.
    :param files: name and image of each file to upload. An image is an http(s) URL or a ``data:`` URI.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] | None = None
    files: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Api(ABC):
    """
    A form of the API, spoken with one relay.

    :param base_url: the relay's.
    :param secrets: strings that no message and no result may contain.
    """

    base_url: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    name: ClassVar[str]
    """Value of the connection's extra ``api``."""
    models: ClassVar[Catalog]
    """The models to choose from, unless the connection adds some."""

    @abstractmethod
    def create(self, body: Mapping[str, Any]) -> ApiRequest:
        """
        Return the request that submits a video. It costs money.

        :param body: from :func:`airflow_provider_veo.protocol.payload.build`.
        """

    @abstractmethod
    def query(self, veo_task_id: str) -> ApiRequest:
        """
        Return the request that polls for a video. It costs nothing.

        :param veo_task_id: the id that create returned.
        """

    def content(self, veo_task_id: str) -> ApiRequest | None:
        """
        Return the request for the first byte of a video's file, or ``None`` if only its URL leads to it.

        :param veo_task_id: the id that create returned.
        """
        return None

    def models_request(self) -> ApiRequest:
        """Return the request that lists the models of the key. It costs nothing."""
        return ApiRequest("GET", MODELS_PATH)

    def url(self, request: ApiRequest) -> str:
        """Return the URL of a request, without its parameters."""
        return f"{self.base_url}{request.path}"

    def read_created(self, reply: Reply, now: float) -> VideoTask:
        """
        Read the answer to :meth:`create`.

        :param reply: the answer.
        :param now: epoch seconds.
        :raises VeoAmbiguousSubmitError: it may have been accepted.
        :raises VeoError: of another kind: it was not accepted.
        """
        return responses.parse_create(*reply, secrets=self.secrets, now=now)

    def read_video(self, reply: Reply, veo_task_id: str, now: float) -> VideoTask:
        """
        Read the answer to :meth:`query`.

        :raises VeoError: ``transient`` if polling again may help.
        """
        return responses.parse_query(*reply, veo_task_id=veo_task_id, secrets=self.secrets, now=now)

    def needs_content(self, video: VideoTask) -> ApiRequest | None:
        """Return the request that shows whether the file of a video is there, if nothing else does."""
        if video.state != "succeeded" or video.video_url:
            return None
        return self.content(video.id)

    def read_content(self, reply: Reply, video: VideoTask, request: ApiRequest) -> VideoTask:
        """
        Read the answer to :meth:`content`: the video with its URL, or with why it has none.

        A gateway may report a video as done that its safety filter removed (openai).

        :raises VeoError: the relay can't say now.
        """
        if (reply.status in (200, 206) and reply.body[:1] not in (b"{", b"<", b"")) or 300 <= reply.status < 400:
            return replace(video, video_url=self.url(request))
        if reply.status in _FOR_NOW:
            raise responses.query_error(*reply, veo_task_id=video.id, secrets=self.secrets)
        answer = responses.read(*reply, secrets=self.secrets)
        return replace(video, warning=f"its file can't be had: {answer.describe()}")

    def read_models(self, reply: Reply) -> list[str]:
        """
        Read the answer to :meth:`models_request`: the names of the models that the key may use.

        :raises VeoError: of the kind that says what is wrong with the key or the host.
        """
        return responses.parse_models(*reply, secrets=self.secrets)

    def no_answer(self, kind: type[VeoError], request: ApiRequest, error: BaseException) -> VeoError:
        """
        Return the error for a request that got no answer.

        :param kind: :class:`VeoUnavailableError` or :class:`VeoAmbiguousSubmitError`.
        :param request: what was sent.
        :param error: the exception raised instead.
        """
        return responses.no_answer(kind, request.method, self.url(request), error, self.secrets)
