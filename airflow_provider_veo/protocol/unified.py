"""The API's unified video format, which the relay of the seed and its siblings speak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_veo.protocol.api import Api, ApiRequest
from airflow_provider_veo.protocol.models import CATALOG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_veo.protocol.models import Catalog

CREATE_PATH = "/v1/video/create"  # seed
QUERY_PATH = "/v1/video/query"  # vendor
_JSON = {"Content-Type": "application/json"}
"""vendor: required for a query, too. Gateways that validate answer 422 without it."""


@dataclass(frozen=True)
class UnifiedApi(Api):
    """``POST /v1/video/create`` and ``GET /v1/video/query``."""

    name: ClassVar[str] = "unified"
    models: ClassVar[Catalog] = CATALOG

    def create(self, body: Mapping[str, Any]) -> ApiRequest:
        """Return the request that submits a video: the body as it is."""
        return ApiRequest("POST", CREATE_PATH, fields=body)

    def query(self, veo_task_id: str) -> ApiRequest:
        """Return the request that polls for a video."""
        return ApiRequest("GET", QUERY_PATH, params={"id": veo_task_id}, headers=_JSON)
