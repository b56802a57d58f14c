"""A task with one video that the safety filter blocks: what its retries submit, and when it fails for good."""

from __future__ import annotations

import decimal
import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_veo.journal.task_journal import RECORD, open_journal
from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoContentBlockedError,
    VeoGenerationFailedError,
    VeoRateLimitError,
    VeoValidationError,
)
from airflow_provider_veo.protocol.prices import exact
from tests.unit.task_context import deferral, fired, resume, run

BLOCKED = "failed=blocked by the safety filter"
OTHER = "a calm cow"


def waiting(**arguments):
    named = {"task_id": "make", "prompt": "a cow", "model": "veo3-fast", "wait_for_completion": True}
    return VeoCreateVideoOperator(**{**named, "poll_interval": 0.05, "deferrable": False, **arguments})


def accepted(relay):
    return relay.stats()["accepted_by_prompt"]


def tries(ti, **arguments):
    """Run tries until the task succeeds or fails for good, and return the number of tries and the error."""
    for number in range(1, 9):
        try:
            waiting(**arguments).execute(ti.context)
            return number, None
        except VeoContentBlockedError:
            ti.next_try()
        except AirflowFailException as error:
            return number, str(error)
    raise AssertionError("it never ends")


def test_retry_submits_a_blocked_prompt_again(relay, ti):
    relay.set_faults(f"{BLOCKED}@1")
    assert tries(ti) == (2, None)
    assert accepted(relay) == {"a cow": 2}


@pytest.mark.parametrize("attempts", [0, 1, 2])
def test_prompt_that_stays_blocked_fails_for_good(relay, ti, attempts):
    relay.set_faults(BLOCKED)
    number, error = tries(ti, attempts_if_blocked=attempts)
    assert number == attempts + 1
    for part in "blocked by the safety filter", "It is not submitted again", "set on_blocked", "clear this task":
        assert part in error
    ti.next_try()  # it was cleared
    assert tries(ti, attempts_if_blocked=attempts)[0] == 1
    assert accepted(relay) == {"a cow": attempts + 1}
    assert ti.xcoms["veo_video"]["state"] == "failed"


def test_reworded_prompt_is_submitted_by_a_retry(relay, ti):
    relay.set_faults(f"{BLOCKED}@prompt=a cow")
    calls = []

    def reword(prompt, reason):
        calls.append((prompt, reason))
        return OTHER

    assert tries(ti, on_blocked=reword) == (3, None)
    assert calls == [("a cow", "blocked by the safety filter")]
    assert accepted(relay) == {"a cow": 2, OTHER: 1}
    assert ti.xcoms["veo_video"]["prompt"] == OTHER
    ti.next_try()
    assert tries(ti) == (1, None)
    assert accepted(relay) == {"a cow": 2, OTHER: 1}


def test_reworded_prompt_that_stays_blocked_fails_for_good(relay, ti):
    relay.set_faults(BLOCKED)
    assert tries(ti, on_blocked=lambda prompt: OTHER)[0] == 4
    assert accepted(relay) == {"a cow": 2, OTHER: 2}


@pytest.mark.slow
def test_refused_retry_leaves_the_reworded_prompt_to_the_next_one(relay, ti):
    relay.set_faults(f"{BLOCKED}@prompt=a cow", f"rate-limit=30@prompt={OTHER}")
    arguments = {"attempts_if_blocked": 0, "on_blocked": lambda prompt: OTHER}
    with pytest.raises(VeoContentBlockedError):
        waiting(**arguments).execute(ti.context)
    ti.next_try()
    with pytest.raises(VeoRateLimitError):
        waiting(**arguments).execute(ti.context)
    relay.set_faults(f"{BLOCKED}@prompt=a cow")
    ti.next_try()
    assert tries(ti, attempts_if_blocked=5, on_blocked=lambda prompt: "never sent") == (1, None)
    assert accepted(relay) == {"a cow": 1, OTHER: 1}


def test_lost_answer_to_the_reworded_prompt_is_not_sent_again_with_another(relay, ti):
    relay.set_faults(f"{BLOCKED}@prompt=a cow", f"drop-after@prompt={OTHER},1")
    arguments = {"attempts_if_blocked": 0, "on_blocked": lambda prompt: OTHER}
    with pytest.raises(VeoContentBlockedError):
        waiting(**arguments).execute(ti.context)
    for _ in range(2):
        ti.next_try()
        with pytest.raises(AirflowFailException, match=f"prompt: {OTHER}"):
            waiting(**arguments).execute(ti.context)
    ti.next_try()
    arguments["on_blocked"] = lambda prompt: "never sent"
    assert tries(ti, on_ambiguous_submit="resubmit", **arguments) == (1, None)
    assert accepted(relay) == {"a cow": 1, OTHER: 2}


def raises(prompt):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("function", "kind", "said"),
    [
        (raises, VeoContentBlockedError, "on_blocked raised ZeroDivisionError"),
        (lambda prompt: None, VeoContentBlockedError, "on_blocked returned no other prompt"),
        (lambda prompt: " ", AirflowFailException, "expected a non-empty string, got ' '"),
    ],
)
def test_function_that_returns_no_valid_prompt_costs_nothing(relay, ti, function, kind, said):
    relay.set_faults(f"{BLOCKED}@prompt=a cow")
    arguments = {"attempts_if_blocked": 0, "on_blocked": function}
    with pytest.raises(VeoContentBlockedError):
        waiting(**arguments).execute(ti.context)
    ti.next_try()
    with pytest.raises(kind, match=said):
        waiting(**arguments).execute(ti.context)
    assert accepted(relay) == {"a cow": 1}
    ti.next_try()
    assert tries(ti, attempts_if_blocked=0, on_blocked=lambda prompt: OTHER) == (1, None)


def test_changed_prompt_is_another_request(relay, ti):
    relay.set_faults(BLOCKED)
    tries(ti, on_blocked=lambda prompt: OTHER)
    ti.next_try()
    assert tries(ti, prompt="a dog")[0] == 2
    assert accepted(relay) == {"a cow": 2, OTHER: 2, "a dog": 2}


def test_deferred_task_whose_video_stays_blocked_fails_for_good(relay, ti):
    relay.set_faults(BLOCKED)
    for kind in VeoContentBlockedError, AirflowFailException:
        deferred = deferral(waiting(deferrable=True).execute, ti.context)
        with pytest.raises(kind, match="blocked by the safety filter"):
            resume(ti, waiting(deferrable=True), deferred, fired(deferred))
        ti.next_try()
    assert accepted(relay) == {"a cow": 2}


def test_without_a_record_retries_are_the_limit(relay, ti):
    relay.set_faults(f"{BLOCKED}@1-3")
    assert tries(ti, durable=False) == (4, None)


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        ({"attempts_if_blocked": -1}, "attempts_if_blocked: expected a whole number, 0 or more, got -1"),
        ({"attempts_if_blocked": 1.5}, "attempts_if_blocked: expected a whole number, 0 or more, got 1.5"),
        ({"attempts_if_blocked": True}, "attempts_if_blocked: expected a whole number, 0 or more, got True"),
        ({"on_blocked": OTHER}, "on_blocked: expected a function, got 'a calm cow'"),
    ],
)
def test_invalid_arguments_are_mistakes_in_the_dag_file(arguments, mistake):
    with pytest.raises(VeoValidationError, match=mistake):
        waiting(**arguments)
    with pytest.raises(VeoValidationError, match=mistake):
        VeoVideoBatchOperator(task_id="night", jobs=["a cow"], result_path="file:///tmp/night", **arguments)


def test_batch_counts_blocked_videos_apart(relay, ti, tmp_path):
    relay.set_faults(f"{BLOCKED}@prompt=dog", f"{BLOCKED}@prompt=wild", "failed=no luck@prompt=cat")
    operator = VeoVideoBatchOperator(
        task_id="night",
        jobs=["a cow", "a dog", "a wild boar", "a cat"],
        result_path=f"file://{tmp_path}/night",
        model="veo3-fast",
        poll_interval=0.05,
        download=False,
        deferrable=False,
        on_blocked=lambda prompt: prompt.replace("wild", "calm") if "wild" in prompt else None,
    )
    done = operator.execute(ti.context)
    assert (done["succeeded"], done["blocked"], done["failed"]) == (2, 1, 1)
    assert accepted(relay) == {"a cow": 1, "a dog": 2, "a wild boar": 2, "a calm boar": 1, "a cat": 1}
    rows = [json.loads(line) for line in (tmp_path / "night" / "results.jsonl").read_text().splitlines()]
    assert [row["state"] for row in rows] == ["succeeded", "blocked", "succeeded", "failed"]
    assert "on_blocked returned no other prompt" in rows[1]["error"]
    summary = json.loads((tmp_path / "night" / "summary.json").read_text())
    assert summary["models"]["veo3-fast"]["blocked"] == 1
    assert "2 of 4 videos succeeded, 1 failed, 1 blocked" in ti.xcoms["summary_text"]
    report = (tmp_path / "night" / "report.html").read_text()
    assert "raise attempts_if_blocked" in report


@pytest.mark.parametrize("deferrable", [False, True])
def test_without_attempts_and_record_no_retry_submits_it_again(relay, ti, deferrable):
    relay.set_faults(BLOCKED)
    arguments = {"durable": False, "attempts_if_blocked": 0, "deferrable": deferrable}
    with pytest.raises(AirflowFailException, match="so this task is not retried"):
        run(ti, lambda: waiting(**arguments))
    assert accepted(relay) == {"a cow": 1}


# --- lost answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [BLOCKED, "failed=no luck"])
@pytest.mark.parametrize("lost", [2, 3])
def test_lost_answers_after_a_failed_video_stay_on_record(relay, ti, failure, lost):
    """The record of the failed video must not hide them: it would be submitted again without asking."""
    relay.set_faults(f"{failure}@1", "drop-after@2+")
    arguments = {"attempts_if_blocked": 9}
    with pytest.raises(VeoGenerationFailedError):
        waiting(**arguments).execute(ti.context)
    for _ in range(lost):
        ti.next_try()
        with pytest.raises(VeoAmbiguousSubmitError):
            waiting(on_ambiguous_submit="resubmit", **arguments).execute(ti.context)
    for _ in range(2):
        ti.next_try()
        with pytest.raises(AirflowFailException, match="It can't be known whether the request was accepted"):
            waiting(**arguments).execute(ti.context)
    assert accepted(relay) == {"a cow": 1 + lost}
    relay.set_faults()
    ti.next_try()
    waiting(on_ambiguous_submit="resubmit", **arguments).execute(ti.context)
    assert accepted(relay) == {"a cow": 2 + lost}
    ti.next_try()
    waiting().execute(ti.context)
    assert accepted(relay) == {"a cow": 2 + lost}


def test_refused_resubmission_leaves_the_lost_answer_on_record(relay, ti, connect):
    connect(extra={"prices": {"veo3-fast": 0.4}})
    relay.set_faults("drop-after@1", "rate-limit=600@2+")
    with pytest.raises(AirflowFailException):
        waiting().execute(ti.context)
    for _ in range(2):
        ti.next_try()
        with pytest.raises(VeoRateLimitError):
            waiting(on_ambiguous_submit="resubmit").execute(ti.context)
        (spent,) = ti.xcoms["veo_spend"]
        assert (spent["unknown"], spent["possible_cost"]) == (1, 0.4)
    relay.set_faults()
    ti.next_try()
    with pytest.raises(AirflowFailException, match="It can't be known whether the request was accepted"):
        waiting().execute(ti.context)
    assert accepted(relay) == {"a cow": 1}


def test_cost_of_a_submission_that_an_earlier_version_recorded_is_not_known(relay, ti, connect):
    """It recorded no price, and no cost."""
    connect(extra={"prices": {"veo3-fast": 0.4}})
    relay.set_faults("failed=no luck@1")
    with pytest.raises(VeoGenerationFailedError):
        waiting().execute(ti.context)
    store = open_journal(ti.context, durable=True)._store
    record = store.get(RECORD)
    store.set(RECORD, {name: value for name, value in record.items() if name not in ("cost", "price")})
    ti.next_try()
    waiting().execute(ti.context)
    (spent,) = ti.xcoms["veo_spend"]
    assert (spent["videos"], spent["unpriced"]) == (2, 1)


def test_precision_that_a_dag_file_has_set_changes_no_price(relay, ti, connect):
    connect(extra={"prices": {"veo3-fast": {"per_second": 0.0525, "seconds": 8}}})
    with decimal.localcontext(decimal.Context(prec=1)):
        exact.cache_clear()
        waiting().execute(ti.context)
    assert (ti.xcoms["veo_video"]["cost"], ti.xcoms["veo_spend"][0]["cost"]) == (0.42, 0.42)
