"""What a task's process imports, imported in the scheduler: its workers are forks, and so each task starts at once."""

from __future__ import annotations

import aiohttp  # noqa: F401
import airflow.dag_processing.dagbag
import airflow.sdk.execution_time.supervisor
import airflow.sdk.execution_time.task_runner
import jsonschema  # noqa: F401
import requests  # noqa: F401
import tenacity  # noqa: F401

import airflow_provider_veo.decorators
import airflow_provider_veo.hooks.sync
import airflow_provider_veo.journal
import airflow_provider_veo.sensors
import airflow_provider_veo.triggers  # noqa: F401
