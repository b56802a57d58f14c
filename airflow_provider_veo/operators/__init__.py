"""The operators. Importing them loads no HTTP client and no validator: those load when a task runs."""

from __future__ import annotations

from airflow_provider_veo.operators.batch import VeoVideoBatchOperator
from airflow_provider_veo.operators.create import VeoCreateVideoOperator
from airflow_provider_veo.operators.download import VeoDownloadVideoOperator
from airflow_provider_veo.operators.merge import VeoMergeShardsOperator

__all__ = ["VeoCreateVideoOperator", "VeoDownloadVideoOperator", "VeoMergeShardsOperator", "VeoVideoBatchOperator"]
