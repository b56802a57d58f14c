"""The forms of the API, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_veo.protocol.openai import OpenAIApi
from airflow_provider_veo.protocol.unified import UnifiedApi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_veo.protocol.api import Api

APIS: Mapping[str, type[Api]] = {api.name: api for api in (UnifiedApi, OpenAIApi)}
"""By the values of the connection's extra ``api``. The first is the default."""
