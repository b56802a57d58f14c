"""The Airflow that a benchmark runs, with connections to the sandbox for our hooks and for those of others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.system.conftest import make_airflow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_provider_veo.sandbox import Sandbox
    from tests.system.conftest import Airflow


def with_dags(folder: Path, relay: Sandbox, sources: Mapping[str, str], **variables: str) -> Airflow:
    """Make one, with a database, a DAG file for each source, by the DAG's id, and more variables of the environment."""
    home, dags = folder / "airflow", folder / "dags"
    home.mkdir()
    dags.mkdir()
    for dag_id, source in sources.items():
        (dags / f"{dag_id}.py").write_text(source)
    headers = {"Authorization": f"Bearer {relay.api_key}", "Accept": "application/json"}
    airflow = make_airflow(
        home,
        dags,
        AIRFLOW_CONN_VEO_DEFAULT=relay.connection,
        AIRFLOW_CONN_RELAY=json.dumps({"conn_type": "http", "host": relay.url, "extra": headers}),
        **variables,
    )
    airflow.run("db", "migrate")
    return airflow
