"""What the retry policy makes of each error, and that a DAG with it survives serialization."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_veo import protocol
from airflow_provider_veo.operators import VeoCreateVideoOperator
from airflow_provider_veo.protocol import VeoError, VeoRateLimitError, VeoUnavailableError, VeoValidationError
from tests import airflow_lines

airflow_lines.skip_module("unit/test_retry_policy.py")

from airflow_provider_veo import retry_policy

POLICY = retry_policy.veo_retry_policy()
KINDS = [kind for kind in vars(protocol).values() if isinstance(kind, type) and issubclass(kind, VeoError)]


def decide(error):
    decision = POLICY.evaluate(error, try_number=1, max_tries=3)
    return decision.action.value, decision.retry_delay


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.final])
def test_what_no_retry_can_fix_fails_at_once(kind):
    assert decide(kind("no")) == ("fail", None)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.final])
def test_what_may_be_fixed_is_left_to_the_tasks_own_retries(kind):
    assert decide(kind("later")) == ("default", None)


@pytest.mark.parametrize("kind", [VeoRateLimitError, VeoUnavailableError])
def test_retry_after_is_respected(kind):
    assert decide(kind("later", retry_after=90.5)) == ("retry", timedelta(seconds=90.5))
    assert decide(kind("now", retry_after=0.0)) == ("retry", timedelta(0))


def test_final_error_is_final_despite_retry_after():
    assert decide(protocol.VeoQuotaError("no", retry_after=5.0))[0] == "fail"


def test_other_errors_are_not_its_business():
    assert decide(ValueError("no")) == ("default", None)
    assert decide(VeoValidationError("no", ["prompt: no"]))[0] == "fail"


def test_it_comes_back_from_its_serialized_form():
    assert type(POLICY).deserialize(POLICY.serialize()) == POLICY


def test_a_dag_with_it_is_serialized_the_same_each_time():
    from airflow.serialization.serialized_objects import DagSerialization

    def serialized():
        with DAG("veo", schedule=None, default_args={"retry_policy": retry_policy.veo_retry_policy()}) as dag:
            VeoCreateVideoOperator(task_id="one", prompt="a cow", retry_policy=retry_policy.veo_retry_policy())
            VeoCreateVideoOperator.partial(task_id="mapped").expand(prompt=["a cow"])
        return DagSerialization.to_dict(dag)

    first = serialized()
    assert first == serialized()
    dag = DagSerialization.from_dict(first)
    assert all(dag.get_task(name).has_retry_policy for name in ("one", "mapped"))
