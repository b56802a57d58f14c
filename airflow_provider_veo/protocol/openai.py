"""The form of the OpenAI Videos API, which LiteLLM, new-api and the relay of the seed serve, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow_provider_veo.protocol.api import Api, ApiRequest
from airflow_provider_veo.protocol.errors import VeoValidationError
from airflow_provider_veo.protocol.models import OPEN_CATALOG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_veo.protocol.models import Catalog

VIDEOS_PATH = "/v1/videos"
_SIZES = {"16:9": "1280x720", "9:16": "720x1280"}
_NOT_SENT = frozenset({"aspect_ratio", "enable_upsample", "enhance_prompt", "images"})
"""What this form does not have, or calls otherwise."""


@dataclass(frozen=True)
class OpenAIApi(Api):
    """``POST /v1/videos``, ``GET /v1/videos/{id}`` and ``GET /v1/videos/{id}/content``."""

    name: ClassVar[str] = "openai"
    models: ClassVar[Catalog] = OPEN_CATALOG

    def create(self, body: Mapping[str, Any]) -> ApiRequest:
        """
        Return the request that submits a video.

        ``size`` follows from ``aspect_ratio``, unless it is an additional field of the body. Images are uploaded.
        """
        fields = {"size": _SIZES[body["aspect_ratio"]]}
        fields |= {name: value for name, value in body.items() if name not in _NOT_SENT}
        if "seconds" in fields:
            fields["seconds"] = str(fields["seconds"])
        files = [("input_reference", image) for image in body.get("images", ())]
        return ApiRequest("POST", VIDEOS_PATH, fields=fields, files=files)

    def query(self, veo_task_id: str) -> ApiRequest:
        """Return the request that polls for a video."""
        return ApiRequest("GET", _path_of(veo_task_id))

    def content(self, veo_task_id: str) -> ApiRequest:
        """Return the request for the first byte of a video's file."""
        # One byte is enough to see that the file is there.
        return ApiRequest("GET", f"{_path_of(veo_task_id)}/content", headers={"Range": "bytes=0-0"})


def _path_of(veo_task_id: str) -> str:
    if veo_task_id in (".", ".."):  # percent-encoding can't keep them from being other paths
        raise VeoValidationError("The video id is not valid. Nothing was sent.", [f"veo_task_id: {veo_task_id!r}"])
    return f"{VIDEOS_PATH}/{quote(veo_task_id, safe='')}"
