"""
The state of the sandbox: settings, videos, faults, files and the request log.

Only the server's event loop uses it, so it needs no locks.
"""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.sandbox.answers import Refusal
from airflow_provider_veo.sandbox.contract import OPENAI, Order, catalog
from airflow_provider_veo.sandbox.faults import Faults
from airflow_provider_veo.sandbox.files import Files
from airflow_provider_veo.sandbox.requests_log import HIDDEN, RequestLog
from airflow_provider_veo.sandbox.settings import Settings, SettingsError
from airflow_provider_veo.sandbox.video import Video, new_id, new_openai_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

log = logging.getLogger("airflow_provider_veo.sandbox")


class Relay:
    """
    The state of the sandbox.

    :param settings: The settings at the start and after each reset.
    :param faults: The faults until the first reset.
    :param seed: Chooses the requests that a fault with a share affects.
    """

    def __init__(self, settings: Settings, faults: Iterable[str] = (), seed: int = 0) -> None:
        self._at_start = settings
        self._seed = seed
        self.files = Files()
        self._begin(settings, faults)

    def _begin(self, settings: Settings, faults: Iterable[str]) -> None:
        self.settings = settings
        self.models = catalog(settings.extra_models)
        self.faults = Faults(faults, self._seed)
        self.request_log = RequestLog()
        self.videos: dict[str, Video] = {}

    def reset(self) -> None:
        """Clear videos, counts and faults, and restore the initial settings."""
        self.files.forget()
        self._begin(self._at_start, ())

    def configure(self, changes: dict[str, Any]) -> None:
        """
        Change some settings.

        :raises SettingsError: One of them is invalid. Nothing has changed.
        """
        settings = self.settings.changed(changes)
        try:
            self.models = catalog(settings.extra_models)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        self.settings = settings

    def authorized(self, request: Request) -> bool:
        """Return whether a request carries the key."""
        given = request.headers.get("authorization", "").encode("latin-1")
        return hmac.compare_digest(given, f"Bearer {self.settings.api_key}".encode())

    def require_key(self, request: Request) -> None:
        """
        Require a request to carry the key.

        :raises Refusal: It doesn't.
        """
        if not self.authorized(request):
            raise Refusal(401, "无效的令牌")

    def accept(self, order: Order) -> Video:
        """Accept a create request. A real relay bills it at this point."""
        if order.api == OPENAI:
            video_id = new_openai_id(order.model, self.settings.long_ids)
        else:
            video_id = new_id(order.model, self.settings.numeric_ids)
        video = Video(video_id, len(self.videos) + 1, order)
        self.videos[video.id] = video
        self.faults.consider(video)
        self.request_log.accepted_by_prompt[order.prompt] += 1
        log.info("accepted %s (%s): %s", video.id, order.model, self._one_line(order.prompt))
        return video

    def find(self, video_id: str, api: str) -> Video:
        """
        Return the video with this id.

        :param api: The form of the request. Videos of the other form are not found.
        :raises Refusal: It does not exist.
        """
        video = self.videos.get(video_id)
        if video is None or video.order.api != api:
            raise Refusal(404, "task not found", "task_not_exist")
        return video

    def _one_line(self, prompt: str) -> str:
        # A prompt is untrusted input, and a terminal interprets control characters.
        text = " ".join(prompt.replace(self.settings.api_key, HIDDEN).split())
        shown = "".join(letter if letter.isprintable() else "?" for letter in text)
        return shown if len(shown) <= 60 else f"{shown[:59]}…"
