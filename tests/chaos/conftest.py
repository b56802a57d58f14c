"""The chaos tests run in the same Airflow as the system tests."""

from tests.system.conftest import migrated_home  # noqa: F401
