"""Names whose place differs by Airflow version, and that not every release of the compat package has."""

from __future__ import annotations

from airflow.providers.common.compat.version_compat import (
    AIRFLOW_V_3_0_PLUS,
    AIRFLOW_V_3_1_PLUS,
    AIRFLOW_V_3_3_PLUS,
    get_base_airflow_version_tuple,
)

AIRFLOW_V_3_4_PLUS = get_base_airflow_version_tuple() >= (3, 4, 0)

# mypy reads one Airflow, the newest: what only older ones have is unknown to it.
try:
    from airflow.sdk.log import mask_secret
except ImportError:
    try:
        from airflow.sdk.execution_time.secrets_masker import mask_secret  # type: ignore[no-redef]
    except ImportError:
        from airflow.utils.log.secrets_masker import mask_secret  # type: ignore[no-redef, import-not-found]

if AIRFLOW_V_3_0_PLUS:
    from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION
else:
    from airflow.utils.types import ArgNotSet  # type: ignore[attr-defined]

    class _SetDuringExecution(ArgNotSet):  # type: ignore[misc]
        """Airflow 2's own has a ``repr`` that differs by process, and so would the serialized DAG."""

        def __repr__(self) -> str:
            return "DYNAMIC (set during execution)"

    SET_DURING_EXECUTION = _SetDuringExecution()

__all__ = ["AIRFLOW_V_3_1_PLUS", "AIRFLOW_V_3_3_PLUS", "AIRFLOW_V_3_4_PLUS", "SET_DURING_EXECUTION", "mask_secret"]
