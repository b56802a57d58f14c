"""The Airflow connection of type ``veo``: its settings and the fields of its form."""

from __future__ import annotations

from airflow_provider_veo.connection.settings import (
    DEFAULT_HOST,
    HEADERS,
    Account,
    VeoConnection,
    read,
    refuse_plain_http_to_the_public,
    refuse_public_addresses,
)

__all__ = [
    "DEFAULT_HOST",
    "HEADERS",
    "Account",
    "VeoConnection",
    "read",
    "refuse_plain_http_to_the_public",
    "refuse_public_addresses",
]
