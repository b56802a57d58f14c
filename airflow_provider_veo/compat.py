"""Names whose place differs by Airflow version, and that not every release of the compat package has."""

from __future__ import annotations

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_3_PLUS

try:
    from airflow.sdk.log import mask_secret
except ImportError:
    try:
        from airflow.sdk.execution_time.secrets_masker import mask_secret
    except ImportError:
        from airflow.utils.log.secrets_masker import mask_secret

if AIRFLOW_V_3_0_PLUS:
    from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION
else:
    from airflow.utils.types import ArgNotSet

    class _SetDuringExecution(ArgNotSet):
        """Airflow 2's own has a ``repr`` that differs by process, and so would the serialized DAG."""

        def __repr__(self) -> str:
            return "DYNAMIC (set during execution)"

    SET_DURING_EXECUTION = _SetDuringExecution()

__all__ = ["AIRFLOW_V_3_1_PLUS", "AIRFLOW_V_3_3_PLUS", "SET_DURING_EXECUTION", "mask_secret"]
