"""Clearing a task deletes its record, unless Airflow is asked to keep it: what the next try does about that."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_veo.operators import VeoCreateVideoOperator
from airflow_provider_veo.protocol import VeoAuthenticationError, VeoRateLimitError
from tests.airflow_lines import skip_module

skip_module("unit/operators/test_cleared.py")

LOST = "Airflow has deleted the record of what its earlier tries submitted"


def create(ti, **arguments):
    given = {"task_id": "make", "prompt": "a cow", "model": "veo3-fast", **arguments}
    return VeoCreateVideoOperator(**given).execute(ti.context)


def sent(relay):
    return relay.stats()["requests"].get("create", 0)


def test_cleared_task_with_its_state_continues_for_nothing(relay, ti, capsys):
    video = create(ti)
    ti.clear(keep_task_state=True)
    assert create(ti, on_cleared="fail") == video
    assert sent(relay) == 1
    assert LOST not in capsys.readouterr().out


def test_cleared_task_without_its_state_warns_before_it_submits(relay, ti, capsys):
    first = create(ti)
    assert LOST not in capsys.readouterr().out
    ti.clear(keep_task_state=False)
    assert create(ti) != first
    assert sent(relay) == 2
    log = capsys.readouterr().out
    assert "on_cleared is 'submit': if a video was submitted before, it is submitted and billed again" in log
    assert log.index(LOST) < log.rindex("Submitting a video")


def test_cleared_task_without_its_state_can_fail_before_it_submits(relay, ti):
    first = create(ti)
    ti.clear(keep_task_state=False)
    with pytest.raises(AirflowFailException, match=LOST) as caught:
        create(ti, on_cleared="fail")
    assert sent(relay) == 1
    for part in "nothing was sent", "set existing_veo_task_id to its id", "set on_cleared='submit'", "journal_path":
        assert part in str(caught.value)
    ti.clear(keep_task_state=True)
    with pytest.raises(AirflowFailException, match=LOST):
        create(ti, on_cleared="fail")
    assert create(ti, on_cleared="fail", existing_veo_task_id=first) == first
    ti.clear(keep_task_state=True)
    assert create(ti, on_cleared="fail") == first
    assert sent(relay) == 1


@pytest.mark.parametrize(("argument", "fails"), [(None, True), ("fail", True), ("submit", False)])
def test_connection_decides_unless_the_task_does(relay, ti, connect, argument, fails):
    connect(extra={"on_cleared": "fail"})
    create(ti)
    ti.clear(keep_task_state=False)
    if fails:
        with pytest.raises(AirflowFailException, match="on_cleared is 'fail': nothing was sent"):
            create(ti, on_cleared=argument)
    else:
        create(ti, on_cleared=argument)
    assert sent(relay) == (1 if fails else 2)


def test_unknown_outcome_is_lost_with_the_record(relay, ti):
    relay.set_faults("drop-after@1")
    with pytest.raises(AirflowFailException, match="It can't be known whether the request was accepted"):
        create(ti)
    ti.clear(keep_task_state=False)
    with pytest.raises(AirflowFailException, match=LOST):
        create(ti, on_cleared="fail")
    assert sent(relay) == 1


def test_retry_is_not_a_clear(relay, ti, capsys):
    relay.set_faults("rate-limit@1")
    with pytest.raises(VeoRateLimitError):
        create(ti, on_cleared="fail")
    ti.next_try()
    create(ti, on_cleared="fail")
    assert LOST not in capsys.readouterr().out


def test_cleared_task_that_had_submitted_nothing_does_not_warn_if_its_state_was_kept(relay, ti, capsys):
    relay.set_faults("status=401@1")
    with pytest.raises((AirflowFailException, VeoAuthenticationError)):
        create(ti, on_cleared="fail")
    ti.clear(keep_task_state=True)
    create(ti, on_cleared="fail")
    assert LOST not in capsys.readouterr().out


def test_warning_is_not_repeated_by_a_retry(relay, ti, capsys):
    create(ti)
    ti.clear(keep_task_state=False)
    relay.set_faults("rate-limit@1")
    with pytest.raises(VeoRateLimitError):
        create(ti)
    assert capsys.readouterr().out.count(LOST) == 1
    ti.next_try()
    create(ti)
    assert LOST not in capsys.readouterr().out


def test_changed_retries_of_a_first_try_are_not_a_clear(relay, ti, capsys):
    ti.task.retries += 1
    create(ti, on_cleared="fail")
    assert LOST not in capsys.readouterr().out


def test_record_in_files_survives_a_clear(relay, ti, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW__VEO__JOURNAL_PATH", tmp_path.as_uri())
    video = create(ti, on_cleared="fail")
    ti.clear(keep_task_state=False)
    assert create(ti, on_cleared="fail") == video
    assert sent(relay) == 1
    assert LOST not in capsys.readouterr().out


def test_task_that_is_not_durable_does_not_ask(relay, ti, capsys):
    create(ti, durable=False)
    ti.clear(keep_task_state=False)
    create(ti, durable=False, on_cleared="fail")
    assert LOST not in capsys.readouterr().out


@pytest.mark.parametrize(("index", "clears", "is_noticed"), [(0, 1, False), (1, 0, False), (1, 1, True)])
def test_iteration_of_a_loop_may_be_repeated_if_the_run_was_cleared(relay, ti, capsys, index, clears, is_noticed):
    ti.loop_index, ti.clears_of_the_run = index, clears
    if is_noticed:
        with pytest.raises(AirflowFailException, match="nothing is on record for iteration 1 of the loop"):
            create(ti, on_cleared="fail")
        ti.next_try()
    create(ti)
    assert ("for iteration 1 of the loop" in capsys.readouterr().out) == is_noticed
    ti.next_try()
    create(ti, on_cleared="fail")
    assert sent(relay) == 1
