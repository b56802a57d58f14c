"""The page's own modules need an Airflow that has such pages."""

from __future__ import annotations

import pytest

from airflow_provider_veo.compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def roots(monkeypatch):
    """Set ``[veo] page_roots``."""

    def set_to(*records: str) -> None:
        monkeypatch.setenv("AIRFLOW__VEO__PAGE_ROOTS", ",".join(records))

    return set_to
