"""The page as an Airflow plugin. Every Airflow process imports this module, so it does not import the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_veo.compat import AIRFLOW_V_3_1_PLUS

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

URL_PREFIX = "/veo"


async def lazy_app(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application that is imported with its first request, which only an API server receives."""
    from airflow_provider_veo.ui.app import app

    await app()(scope, receive, send)


class VeoPlugin(AirflowPlugin):
    """The page, on Airflow 3.1 and later."""

    name = "veo"
    fastapi_apps: list[Any] = (
        [{"app": lazy_app, "url_prefix": URL_PREFIX, "name": "Veo videos"}] if AIRFLOW_V_3_1_PLUS else []
    )
    external_views: list[Any] = (
        [
            {
                "name": "Veo videos",
                "href": f"{URL_PREFIX.removeprefix('/')}/",
                "url_route": "veo-videos",
                "category": "browse",
                "destination": "nav",
            }
        ]
        if AIRFLOW_V_3_1_PLUS
        else []
    )
