"""A batch against a relay over real HTTP: how much at a time, and what each refusal means for the rest."""

from __future__ import annotations

import json
import time

import pytest

from airflow_provider_veo.protocol import VideoTask
from airflow_provider_veo.protocol.prices import exact
from tests.conftest import CANARY
from tests.unit.batch.conftest import creates, ids_at, job, jobs


def generating_at_most(relay, seconds):
    """Return how many videos were generated at a time."""
    moments = [(each["accepted_at"], 1) for each in relay.videos()]
    moments += [(begun + seconds, -1) for begun, _ in moments]
    now = most = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def test_all_are_made_and_paid_once(relay, a_try):
    done = a_try(jobs(40), max_in_flight=15)
    assert done.counts == {"succeeded": 40}
    assert relay.stats()["accepted"] == 40
    assert relay.stats()["paid_twice"] == {}
    assert {each.veo_task_id for each in done.run.engine.records.values()} == ids_at(relay)


def test_nothing_to_make_is_made(relay, a_try):
    assert a_try([]).counts == {}
    assert creates(relay) == 0


@pytest.mark.parametrize(("count", "most"), [(9, 1), (20, 3), (12, 40)])
def test_never_more_than_so_many_are_generated_at_a_time(relay, a_try, count, most):
    relay.configure(generation_seconds=0.15)
    assert a_try(jobs(count), max_in_flight=most).counts == {"succeeded": count}
    assert generating_at_most(relay, 0.15) <= most
    assert relay.stats()["paid_twice"] == {}


def test_a_second_try_after_everything_pays_nothing_and_asks_nothing(relay, a_try):
    a_try(jobs(10))
    before = relay.stats()["requests"]
    assert a_try(jobs(10)).counts == {"succeeded": 10}
    assert relay.stats()["requests"] == before


def test_only_what_is_new_is_submitted(relay, a_try):
    a_try(jobs(5))
    assert a_try(jobs(8)).counts == {"succeeded": 8}
    assert creates(relay) == 8


def test_a_changed_request_of_a_named_job_is_submitted(relay, a_try):
    first = a_try([job("cow"), job("dog")])
    second = a_try([job("cow", prompt="a cow swims"), job("dog")])
    assert second.counts == {"succeeded": 2}
    assert relay.stats()["accepted_by_prompt"] == {"prompt of cow": 1, "prompt of dog": 1, "a cow swims": 1}
    old = first.run.engine.records["cow"].veo_task_id
    assert second.run.engine.records["cow"].earlier == (old,)
    assert second.run.engine.records["cow"].cost is None


def test_without_money_submitting_ends_and_waiting_goes_on(relay, a_try):
    relay.configure(generation_seconds=0.3)
    relay.set_faults("quota@6+")
    done = a_try(jobs(40), max_in_flight=10)
    assert done.counts == {"succeeded": 5, "not_submitted": 35}
    assert creates(relay) <= 10
    assert relay.stats()["accepted"] == 5
    assert len(done.errors) == 35
    relay.set_faults()
    assert a_try(jobs(40)).counts == {"succeeded": 40}
    assert relay.stats()["paid_twice"] == {}


def test_another_process_of_the_same_try_asks_for_no_more_without_money(relay, a_try):
    relay.set_faults("quota")
    a_try(jobs(4), deferrable=True)
    before = creates(relay)
    assert a_try(jobs(4), outcomes={}, deferrable=True).counts == {"not_submitted": 4}
    assert creates(relay) == before
    a_try(jobs(4))
    assert creates(relay) > before


def test_a_bad_key_ends_it_at_once(relay, a_try, connect):
    connect(password=CANARY + "-wrong")
    done = a_try(jobs(100), max_in_flight=10)
    assert done.counts == {"not_submitted": 100}
    assert creates(relay) <= 10
    assert all("401" in error for error in done.errors.values())
    assert CANARY not in json.dumps(list(done.results.rows()))
    connect()
    assert a_try(jobs(100), max_in_flight=100).counts == {"succeeded": 100}


@pytest.mark.slow
def test_a_relay_that_wants_fewer_requests_gets_fewer_and_all_is_made(relay, a_try):
    relay.set_faults("rate-limit=3@4-9")
    done = a_try(jobs(30), max_in_flight=8)
    assert done.counts == {"succeeded": 30}
    assert relay.stats()["paid_twice"] == {}
    sent = [(each["time"], each["status"]) for each in relay.requests()]
    refused = [when for when, status in sent if status == "429"]
    assert len(refused) == 6
    # As long as it asks for, nothing is sent but what was on the way.
    first = refused[0]
    assert [when for when, _ in sent if first + 1.5 < when < first + 2.7] == []
    assert [when for when, _ in sent if refused[-1] + 1.5 < when < refused[-1] + 2.7] == []


@pytest.mark.parametrize("fault", ["status=503:model_not_found@3-8", "status=503@10%", "flat-envelope=busy:500@2-3"])
def test_a_relay_that_is_busy_is_asked_again(relay, a_try, fault):
    relay.set_faults(fault)
    assert a_try(jobs(25), max_in_flight=10).counts == {"succeeded": 25}
    assert relay.stats()["accepted"] == 25


def test_what_the_relay_refuses_is_sent_again_by_the_next_try_only(relay, a_try):
    relay.set_faults("status=400@prompt=k003")
    done = a_try(jobs(6))
    assert (done.counts, done.states["k003"]) == ({"succeeded": 5, "refused": 1}, "refused")
    assert creates(relay) == 6
    assert a_try(jobs(6)).states["k003"] == "refused"
    relay.set_faults()
    assert a_try(jobs(6)).counts == {"succeeded": 6}
    assert (creates(relay), relay.stats()["accepted"]) == (8, 6)


def test_unclear_status_with_a_url_ends_a_job_with_a_warning(relay, a_try, caplog):
    relay.set_faults("query:status-word=pondering@prompt=k001")
    assert a_try(jobs(3)).counts == {"succeeded": 3}
    assert "taken as ready" in caplog.text
    assert "k001" in caplog.text


def test_a_generation_that_fails_is_reported_and_not_paid_for_again(relay, a_try):
    relay.set_faults("failed=blocked@prompt=k001")
    for _ in range(2):
        done = a_try(jobs(4))
        assert done.counts == {"succeeded": 3, "failed": 1}
        assert done.errors == {"k001": "blocked"}
    assert creates(relay) == 4


def test_a_generation_that_fails_is_tried_again_as_often_as_asked_for(relay, a_try):
    relay.set_faults("failed=blocked@prompt=k001,1-2", "failed=blocked@prompt=k002")
    for _ in range(2):
        done = a_try(jobs(4), attempts_per_video=3)
        assert done.counts == {"succeeded": 3, "failed": 1}
        rows = {row["key"]: row["attempts"] for row in done.results.rows()}
        assert rows == {"k000": 1, "k001": 3, "k002": 3, "k003": 1}
    assert relay.stats()["accepted"] == 8
    assert {id for each in done.run.engine.records.values() for id in (each.veo_task_id, *each.earlier)} == ids_at(
        relay
    )


def test_the_budget_ends_further_attempts(relay, a_try, connect):
    connect(extra={"prices": {"veo3-fast": 0.4}})
    relay.set_faults("failed=blocked")
    done = a_try(jobs(3), attempts_per_video=5, max_cost=2.0)
    assert done.counts == {"failed": 3}
    assert relay.stats()["accepted"] == 5
    assert done.results.cost == exact(2.0)
    assert all(error.startswith("blocked\nIt costs 0.4, and 2 of max_cost=2") for error in done.errors.values())
    assert a_try(jobs(3), attempts_per_video=5, max_cost=2.0).results.cost == exact(2.0)
    assert relay.stats()["accepted"] == 5
    assert a_try(jobs(3), attempts_per_video=5, max_cost=2.4).results.cost == exact(2.4)


def test_a_video_of_elsewhere_is_adopted_and_not_paid_for(relay, a_try):
    there = a_try([job("dog")]).run.engine.records["dog"].veo_task_id
    before = creates(relay)
    for _ in range(2):
        done = a_try([job("cow", existing=there)])
        assert done.counts == {"succeeded": 1}
        assert done.run.engine.records["cow"].veo_task_id == there
    assert a_try([job("cow", existing=there, prompt="other")]).counts == {"succeeded": 1}
    assert creates(relay) == before


def test_an_adopted_video_that_failed_is_replaced_once(relay, a_try):
    relay.set_faults("failed=blocked@1")
    there = a_try([job("dog")]).run.engine.records["dog"].veo_task_id
    for _ in range(3):
        done = a_try([job("cow", existing=there)], attempts_per_video=2)
        assert done.counts == {"succeeded": 1}
    assert relay.stats()["accepted_by_prompt"]["prompt of cow"] == 1


def test_a_file_that_can_not_be_fetched_is_stored_by_the_next_try(relay, a_try, tmp_path):
    relay.configure(video_seconds=0.2)
    relay.set_faults("file:status=403@prompt=k001")
    done = a_try(jobs(3), download=True)
    assert done.counts == {"succeeded": 2, "not_stored": 1}
    assert sorted(path.name for path in (tmp_path / "videos").glob("*.mp4")) == ["k000.mp4", "k002.mp4"]
    relay.set_faults()
    again = a_try(jobs(3), download=True)
    assert again.counts == {"succeeded": 3}
    assert sorted(path.name for path in (tmp_path / "videos").glob("*.mp4")) == ["k000.mp4", "k001.mp4", "k002.mp4"]
    assert creates(relay) == 3


def test_a_wait_that_is_too_long_is_gone_on_with_by_the_next_try(relay, a_try):
    relay.configure(generation_seconds=600)
    done = a_try(jobs(3), timeout=0.4)
    assert done.counts == {"timed_out": 3}
    relay.configure(generation_seconds=0)
    assert a_try(jobs(3), timeout=0.4).counts == {"succeeded": 3}
    assert creates(relay) == 3


def outcomes_at(relay, run):
    """Return what a trigger would see."""
    hook = run._hook._hook
    seen = {veo_task_id: hook.get_video(veo_task_id) for veo_task_id in run.watched}
    return {id: {"video": each.to_dict()} for id, each in seen.items() if each.state != "running"}


def test_without_a_worker_it_submits_returns_and_goes_on_with_what_a_trigger_saw(relay, a_try):
    relay.configure(generation_seconds=600)
    done = a_try(jobs(10), deferrable=True, max_in_flight=4)
    assert len(done.run.engine.places.in_flight) == 4
    assert len(done.run.engine.places.queue) == 6
    assert relay.stats()["requests"] == {"create": 4}
    assert done.run.watched.keys() == ids_at(relay)
    relay.set_faults("failed=blocked@2")
    relay.configure(generation_seconds=0)
    again = a_try(jobs(10), outcomes=outcomes_at(relay, done.run), deferrable=True, max_in_flight=100)
    assert len(again.run.engine.places.in_flight) == 6
    last = a_try(jobs(10), outcomes=outcomes_at(relay, again.run), deferrable=True)
    assert last.counts == {"succeeded": 9, "failed": 1}
    assert creates(relay) == 10


def test_what_a_trigger_gave_up_on_is_not_waited_for_in_the_same_try(relay, a_try):
    relay.configure(generation_seconds=600)
    done = a_try(jobs(2), deferrable=True)
    one, two = done.run.watched
    error = {"kind": "VeoTimeoutError", "message": "too late", "veo_task_id": one}
    again = a_try(jobs(2), outcomes={one: {"error": error}}, deferrable=True)
    assert list(again.run.watched) == [two]
    video = VideoTask(id=two, state="succeeded", status="completed", video_url="https://media.example.com/x.mp4")
    last = a_try(jobs(2), outcomes={two: {"video": video.to_dict()}}, deferrable=True)
    assert last.counts == {"succeeded": 1, "timed_out": 1}
    assert creates(relay) == 2


def test_a_relay_that_refuses_everything_does_not_hold_a_worker(relay, a_try):
    relay.set_faults("rate-limit=600")
    started = time.monotonic()
    done = a_try(jobs(5), deferrable=True)
    assert time.monotonic() - started < 60
    assert done.run.engine.has_more
    assert done.run.checkpoint.refused_since
    assert done.run.checkpoint.held_until
    assert len(done.run.engine.places.queue) == 5


def test_how_far_it_is_counts_the_jobs_that_are_asked_for(relay, a_try):
    a_try(jobs(5))
    told = []
    done = a_try([job("k000", prompt="other"), job("k001"), job("new")], publish=told.append)
    assert (told[0].total, told[0].done, told[0].failed) == (3, 1, 0)
    assert (done.run.progress.done, done.run.progress.failed) == (3, 0)


def test_a_progress_that_can_not_be_told_ends_nothing(relay, a_try, caplog):
    def publish(progress):
        raise ConnectionError("no Airflow")

    assert a_try(jobs(5), publish=publish).counts == {"succeeded": 5}
    assert "The progress could not be reported: ConnectionError: no Airflow" in caplog.text
