"""What a task's process imports, imported in the scheduler: its workers are forks, and so each task starts at once."""

from __future__ import annotations

import importlib

for name in (
    "aiohttp",
    "airflow.dag_processing.dagbag",
    "airflow.providers.http.operators.http",
    "airflow.providers.http.sensors.http",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow_provider_veo.batch.inputs",
    "airflow_provider_veo.journal.batch_journal",
    "airflow_provider_veo.batch.results",
    "airflow_provider_veo.batch.run",
    "airflow_provider_veo.decorators",
    "airflow_provider_veo.hooks.sync",
    "airflow_provider_veo.journal",
    "airflow_provider_veo.operators.batch",
    "airflow_provider_veo.sensors",
    "airflow_provider_veo.storage.store",
    "airflow_provider_veo.triggers",
    "fsspec.implementations.local",
    "jsonschema",
    "requests",
    "tenacity",
):
    importlib.import_module(name)
