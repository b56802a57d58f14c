"""Answers that are lost, signals, a storage that fails: no video is billed twice or lost."""

from __future__ import annotations

import contextlib
import gc
import http.server
import json
import os
import random
import signal
import threading
import time
import warnings

import pytest

from airflow_provider_veo.batch import slots
from airflow_provider_veo.journal.batch_journal import SupersededError
from airflow_provider_veo.protocol import VeoJournalError, VeoJournalRecordError
from tests.unit.batch.conftest import at_once, creates, ids_at, job, jobs

LOST = ["drop-after", "reset-after", "bare-after=502", "cut-off", "empty", "no-json", "no-id", "bare=504"]


def ids_on_record(journal_of_batch):
    records = journal_of_batch().begin().values()
    return {id for each in records for id in (each.veo_task_id, *each.earlier) if id}


def when(happened, act):
    """Do something in a thread as soon as something else has happened."""

    def watch():
        deadline = time.monotonic() + 60
        while not happened():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        act()

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.parametrize("fault", LOST)
def test_lost_answer_is_reported_and_never_submitted_again(relay, a_try, fault):
    relay.set_faults(f"{fault}@prompt=k002")
    done = a_try(jobs(6))
    assert (done.counts, done.states["k002"]) == ({"succeeded": 5, "unknown": 1}, "unknown")
    assert "existing_veo_task_id" in done.errors["k002"]
    relay.set_faults()
    for _ in range(2):
        assert a_try(jobs(6)).states["k002"] == "unknown"
    assert creates(relay) == 6
    assert relay.stats()["paid_twice"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["bare=502", "drop-after", "bare=404", "redirect", "drop-before", "bare=503"])
def test_an_outage_of_a_second_does_not_take_the_night(relay, a_try, fault):
    """Each create that is sent into it may be billed, and nobody would know."""
    relay.set_faults("slow=0.01@1-3", f"{fault}@4+")
    with contextlib.ExitStack() as ends:

        def begun(run):
            timer = threading.Timer(1.0, relay.set_faults)
            ends.callback(timer.join)
            timer.start()

        done = a_try(jobs(200), begun=begun, max_in_flight=200)
    counts = {"unknown": 0, **done.counts}
    assert counts.keys() == {"succeeded", "unknown"}
    assert counts["unknown"] <= 8
    assert counts["succeeded"] >= 190
    assert relay.stats()["accepted"] <= 200


@pytest.mark.slow
def test_relay_that_never_answers_gets_fewer_and_fewer_requests(relay, a_try):
    relay.set_faults("drop-after")

    def begun(run):
        timer = threading.Timer(8.0, lambda: run.kill(RuntimeError("enough")))
        timer.start()

    done = a_try(jobs(200), begun=begun, max_in_flight=200)
    assert str(done.error) == "enough"
    # Five at once; a probe after two seconds, and one four seconds later.
    assert 5 <= creates(relay) <= 7


@pytest.mark.parametrize("wait", [0.0, 0.3])
def test_a_killed_batch_sends_nothing_more(relay, a_try, wait):
    relay.set_faults("slow=0.5")
    sent = []

    def begun(run):
        def kill():
            sent.append(creates(relay))
            run.kill(RuntimeError("killed"))

        threading.Timer(0.5 + wait, kill).start()

    done = a_try(jobs(200), begun=begun, max_in_flight=200)
    assert str(done.error) == "killed"
    assert creates(relay) <= sent[0] + slots.CREATES_AT_ONCE
    on_record = done.run.engine.records.values()
    assert sum(record.state == "intended" for record in on_record) == 0
    assert (
        sum(record.state == "accepted" for record in on_record)
        + sum(record.state == "succeeded" for record in on_record)
        == relay.stats()["accepted"]
    )


def test_a_key_that_is_refused_stops_those_that_wait_for_their_turn(relay, a_try):
    relay.set_faults("status=401@3+")
    done = a_try(jobs(100), max_in_flight=100)
    assert done.counts["not_submitted"] == 98
    assert creates(relay) <= 2 + 2 * slots.CREATES_AT_ONCE


def test_model_missing_from_the_connection_is_not_a_refusal_of_the_relay(relay, a_try):
    batch = [job("a"), job("b")]
    batch[1].body["model"] = "veo9"
    done = a_try(batch)
    assert done.states == {"a": "succeeded", "b": "not_submitted"}
    assert "veo9" in done.errors["b"]
    batch[1].body["model"] = "veo3"
    assert a_try(batch).counts == {"succeeded": 2}


class EarlyUrl(http.server.BaseHTTPRequestHandler):
    """A relay that names a URL with its first answer, and fails the video later."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply({"id": "veo3:1", "status": "pending", "video_url": "https://media.example.com/early.mp4"})

    def do_GET(self):
        self.reply({"id": "veo3:1", "status": "failed", "error": "blocked"})

    def reply(self, answer):
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def test_only_the_status_of_a_create_says_that_a_video_exists(a_try, serve, connect):
    connect(host=f"http://127.0.0.1:{serve(EarlyUrl).server_port}")
    done = a_try(jobs(1))
    assert (done.counts, done.errors) == ({"failed": 1}, {"k000": "blocked"})


def test_a_video_that_was_found_at_the_relay_is_adopted(relay, a_try):
    relay.set_faults("drop-after@1")
    (batch,) = [jobs(1)]
    a_try(batch)
    found = [type(each)(each.key, each.body, each.source, each.named, next(iter(ids_at(relay)))) for each in batch]
    assert a_try(found).counts == {"succeeded": 1}
    assert creates(relay) == 1


def test_lost_answer_is_submitted_again_if_requested(relay, a_try):
    relay.set_faults("drop-after@prompt=k001,1")
    done = a_try(jobs(3), on_ambiguous_submit="resubmit")
    assert done.counts == {"succeeded": 3}
    assert relay.stats()["accepted_by_prompt"] == {"prompt of k000": 1, "prompt of k001": 2, "prompt of k002": 1}


def test_and_not_for_ever(relay, a_try):
    relay.set_faults("drop-after@prompt=k001")
    done = a_try(jobs(3), on_ambiguous_submit="resubmit")
    assert (done.counts, done.states["k001"]) == ({"succeeded": 2, "unknown": 1}, "unknown")
    assert relay.stats()["accepted_by_prompt"]["prompt of k001"] == 3
    a_try(jobs(3), outcomes={}, on_ambiguous_submit="resubmit")
    assert relay.stats()["accepted_by_prompt"]["prompt of k001"] == 3


@pytest.mark.slow
def test_the_budget_holds_for_what_may_have_been_accepted(relay, a_try, connect):
    connect(extra={"prices": {"veo3-fast": 1.0}})
    relay.set_faults("drop-after")
    a_try(jobs(4), on_ambiguous_submit="resubmit", max_cost=5.0)
    assert relay.stats()["accepted"] == 5


class Ended(BaseException):
    """What Airflow raises in a signal's handler."""


@pytest.mark.parametrize("end", [Ended("killed"), KeyboardInterrupt(), RuntimeError("killed")])
def test_who_is_killed_while_requests_are_out_records_their_answers(relay, a_try, journal_of_batch, end):
    relay.configure(generation_seconds=600)
    relay.set_faults("slow=0.5")
    done = a_try(jobs(60), max_in_flight=20, begun=lambda run: when(lambda: creates(relay), lambda: run.kill(end)))
    assert done.error is end
    assert 0 < creates(relay) <= 20
    assert ids_on_record(journal_of_batch) == ids_at(relay)
    relay.configure(generation_seconds=0)
    relay.set_faults()
    assert a_try(jobs(60), max_in_flight=60).counts == {"succeeded": 60}
    assert relay.stats()["paid_twice"] == {}


def test_who_is_killed_while_the_relay_wants_to_hear_nothing_ends_at_once(relay, a_try):
    relay.set_faults("rate-limit=600")
    started = time.monotonic()
    end = Ended("killed")
    done = a_try(jobs(5), begun=lambda run: when(lambda: run.limiter.seconds_held, lambda: run.kill(end)))
    assert done.error is end
    assert time.monotonic() - started < 60
    assert done.run.engine.records.keys() <= {"k000", "k001", "k002", "k003", "k004"}
    assert creates(relay) == 5


@pytest.mark.parametrize("place", ["memory"])
def test_who_is_killed_while_intents_are_written_sends_nothing(relay, a_try, storage):
    def begun(run):
        storage.slow = 1.0
        when(lambda: run.engine.places.in_flight, lambda: run.kill(Ended("killed")))

    assert isinstance(a_try(jobs(5), begun=begun).error, Ended)
    assert creates(relay) == 0
    storage.slow = 0.0
    assert a_try(jobs(5)).counts == {"succeeded": 5}
    assert creates(relay) == 5


@pytest.fixture
def a_signal():
    """A signal that ends a task as Airflow's does: its handler raises."""

    def end(number, frame):
        raise Ended("SIGTERM")

    before = signal.signal(signal.SIGTERM, end)
    yield lambda: os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_a_signal_at_any_moment_loses_no_answer(relay, a_try, journal_of_batch, a_signal):
    """Raised inside the event loop it would sooner or later take the place of an answer, or of a record."""
    chance = random.Random(7)
    relay.configure(generation_seconds=600)
    relay.set_faults("slow=0.02@50%")
    ended = 0
    for number in range(25):
        soon = threading.Timer(0.005 + chance.random() * 0.12, a_signal)
        try:
            batch = jobs(12 + number * 12)
            done = a_try(batch, max_in_flight=1000, deferrable=True, begun=lambda run, soon=soon: soon.start())
            ended += isinstance(done.error, Ended)
            if not done.error:
                time.sleep(1)
        except Ended:
            pass  # it was quicker
        soon.join()
    assert ended
    assert ids_on_record(journal_of_batch) == ids_at(relay)
    assert a_try(jobs(320), max_in_flight=1000, deferrable=True).run.engine.places.in_flight.keys() == {
        each.key for each in jobs(320)
    }
    assert relay.stats()["paid_twice"] == {}
    assert relay.stats()["accepted"] == 320


def test_the_handlers_of_signals_are_put_back(relay, a_try, a_signal):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    a_try(jobs(1))
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("place", ["memory"])
@pytest.mark.parametrize("accepted", [1, 5, 12])
def test_a_storage_that_fails_ends_submitting_and_no_id_is_lost(relay, a_try, storage, journal_of_batch, accepted):
    relay.configure(generation_seconds=0.1)

    def fail(run):
        when(lambda: relay.stats()["accepted"] >= accepted, lambda: storage.fails.add("write"))

    done = a_try(jobs(200), max_in_flight=4, begun=fail)
    assert isinstance(done.error, VeoJournalError | VeoJournalRecordError)
    assert creates(relay) < 200
    storage.fails.clear()
    on_record = ids_on_record(journal_of_batch)
    named = {id for id in ids_at(relay) if f"video {id}" in str(done.error)}
    assert on_record | named == ids_at(relay)
    if named:
        assert isinstance(done.error, VeoJournalRecordError)
        assert done.error.final
        assert "existing_veo_task_id" in str(done.error)


@pytest.mark.parametrize("place", ["memory"])
def test_ids_that_can_not_be_recorded_are_named_when_their_videos_are_there_too(
    relay, a_try, storage, journal_of_batch
):
    """The record of an end takes the place of the record of the acceptance: both are missing then."""
    relay.set_faults("slow=1.5")
    done = a_try(jobs(3), begun=lambda run: when(lambda: creates(relay) == 3, lambda: storage.fails.add("write")))
    assert isinstance(done.error, VeoJournalRecordError)
    assert all(f"video {id}" in str(done.error) for id in ids_at(relay))
    assert len(ids_at(relay)) == 3
    storage.fails.clear()
    relay.set_faults()
    assert a_try(jobs(3)).counts == {"unknown": 3}
    assert creates(relay) == 3


@pytest.mark.parametrize("place", ["memory"])
def test_a_storage_that_recovers_while_it_waits_costs_nothing(relay, a_try, storage):
    relay.configure(generation_seconds=1.5)
    relay.set_faults("slow=0.2")

    def fail_for_a_while(run):
        when(lambda: creates(relay) == 3, lambda: storage.fails.add("write"))
        when(lambda: run._writer.broken, storage.fails.clear)

    assert a_try(jobs(3), begun=fail_for_a_while).counts == {"succeeded": 3}
    assert a_try(jobs(3)).counts == {"succeeded": 3}
    assert creates(relay) == 3


def test_an_older_process_sends_nothing_more_and_loses_nothing(relay, a_try, journal_of_batch):
    relay.configure(generation_seconds=0.5)
    newer = []

    def supersede():
        newer.append(journal_of_batch().begin())

    done = a_try(jobs(60), max_in_flight=5, begun=lambda run: when(lambda: creates(relay) >= 10, supersede))
    assert isinstance(done.error, SupersededError)
    sent = creates(relay)
    assert sent < 60
    assert ids_on_record(journal_of_batch) == ids_at(relay)
    # Creates that it had recorded and was prevented from sending are known not to be sent.
    assert a_try(jobs(60), max_in_flight=60).counts == {"succeeded": 60}
    assert relay.stats()["paid_twice"] == {}


def test_the_same_try_in_several_processes_is_billed_once(relay, a_try):
    """A scheduler that takes a worker for dead starts another one, and a third."""
    relay.configure(generation_seconds=0.2)
    relay.set_faults("slow=0.05")

    def run(index):
        time.sleep(index * 0.15)
        return a_try(jobs(40), max_in_flight=6)

    outcomes = at_once(3, run)
    assert all(each.results or isinstance(each.error, VeoJournalError) for each in outcomes), outcomes
    assert relay.stats()["paid_twice"] == {}
    assert a_try(jobs(40), max_in_flight=40).counts == {"succeeded": 40}
    assert relay.stats()["paid_twice"] == {}
    assert relay.stats()["accepted"] == 40


def test_who_is_ended_before_the_work_begins_leaves_nothing_open(a_try):
    def end(run):
        raise Ended("SIGTERM")

    gc.collect()
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        with pytest.raises(Ended):
            a_try(jobs(1), begun=end)
        gc.collect()
    assert [str(each.message) for each in noticed if each.category is ResourceWarning] == []


def test_who_is_killed_before_the_work_begins_sends_nothing(relay, a_try):
    assert isinstance(a_try(jobs(3), begun=lambda run: run.kill(Ended("killed"))).error, Ended)
    assert creates(relay) == 0
