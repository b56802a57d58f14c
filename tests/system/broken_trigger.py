"""A trigger that fails as no trigger should. It is not part of a DAG file: a triggerer imports it."""

from __future__ import annotations

from airflow_provider_veo.triggers import VeoVideoTrigger


class BrokenTrigger(VeoVideoTrigger):
    """Fails, and not with an event."""

    async def run(self):
        raise RuntimeError("the trigger broke")
        yield
