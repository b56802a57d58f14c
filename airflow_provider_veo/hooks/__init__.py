"""The hooks to a Veo relay: the only modules that open a connection to it.

``VeoHook`` is for tasks (requests), ``VeoAsyncHook`` for triggers (aiohttp). Each is imported on first use, so that
a triggerer doesn't load requests, nor a worker aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_veo.hooks.asynchronous import VeoAsyncHook
    from airflow_provider_veo.hooks.sync import VeoHook

__all__ = ["VeoAsyncHook", "VeoHook"]

_MODULES = {"VeoAsyncHook": "asynchronous", "VeoHook": "sync"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
