"""What a try does about an earlier submission, row by row, against a relay that counts."""

from __future__ import annotations

import json
import logging
import os
import threading

import pytest
import tenacity

from airflow_provider_veo.hooks import VeoHook, sync
from airflow_provider_veo.operators import submit
from airflow_provider_veo.operators.submit import Submitter
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoJournalError,
    VeoJournalRecordError,
    VeoNotFoundError,
    VeoRateLimitError,
    VeoRequestRejectedError,
    VeoUnavailableError,
    VeoWrongHostError,
    payload,
)
from tests.conftest import CANARY
from tests.unit.journal.conftest import journal, journal_of, root  # noqa: F401  fixtures

BODY = payload.build("a cow flies", "veo3-fast")
OTHER = payload.build("a dog swims", "veo3", images=None)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Retry as often as usual, with shorter pauses."""
    monkeypatch.setattr(sync, "_backoff", tenacity.wait_fixed(0.02))
    monkeypatch.setattr(submit, "NOT_FOUND_SECONDS", 0.5)
    monkeypatch.setattr(submit, "_SECONDS_BETWEEN_404S", 0.1)


@pytest.fixture
def a_try(relay, journal_of):  # noqa: F811
    """Make the submitter of another try of the same task instance, as another process would."""
    hooks = []

    def make(number=1, on_ambiguous_submit="fail", conn_id="veo_default"):
        hooks.append(VeoHook(conn_id))
        return Submitter(hooks[-1], journal_of(), on_ambiguous_submit, logging.getLogger("tests"), number)

    yield make
    for hook in hooks:
        hook.close()


def paid(relay, body=BODY):
    return relay.stats()["accepted_by_prompt"].get(body["prompt"], 0)


def creates(relay):
    return relay.stats()["requests"].get("create", 0)


def test_what_is_accepted_is_on_record(relay, a_try, journal):  # noqa: F811
    submitted = a_try().submit(BODY)
    record = journal.read()
    assert (record.state, record.veo_task_id) == ("accepted", submitted.video.id)
    assert record.submitted == submitted.at
    assert record.account == "veo_default"


@pytest.mark.parametrize("generation_seconds", [0, 600])
def test_next_try_continues_with_the_video(relay, a_try, caplog, generation_seconds):
    relay.configure(generation_seconds=generation_seconds)
    first = a_try().submit(BODY)
    caplog.set_level("INFO")
    second = a_try(2).submit(BODY)
    assert (second.video.id, second.at) == (first.video.id, first.at)
    assert second.video.state == ("running" if generation_seconds else "succeeded")
    assert creates(relay) == 1
    assert f"Continuing with video {first.video.id}" in caplog.text
    assert "To make a new one instead, remove the record" in caplog.text
    relay.configure(generation_seconds=0)


def test_a_video_that_failed_is_submitted_again(relay, a_try, caplog):
    relay.set_faults("failed=blocked@1")
    first = a_try().submit(BODY)
    second = a_try(2).submit(BODY)
    assert second.video.id != first.video.id
    assert paid(relay) == 2
    assert f"Video {first.video.id} could not be generated (blocked): submitting it again" in caplog.text
    assert a_try(3).submit(BODY).video.id == second.video.id
    assert paid(relay) == 2


def test_a_video_that_the_relay_does_not_know_any_more_is_submitted_again(relay, a_try, caplog):
    relay.set_faults("not-found-first=1000@1")
    first = a_try().submit(BODY)
    assert a_try(2).submit(BODY).video.id != first.video.id
    assert f"no longer knows video {first.video.id}: submitting it again" in caplog.text
    assert paid(relay) == 2


@pytest.mark.parametrize("fault", ["query:bare=404", "query:status=404:invalid_url"])
def test_a_404_that_does_not_name_the_video_submits_nothing(relay, a_try, fault):
    first = a_try().submit(BODY)
    relay.set_faults(fault)
    with pytest.raises(VeoNotFoundError, match=f"Video {first.video.id} is on record. Nothing was submitted"):
        a_try(2).submit(BODY)
    relay.set_faults()
    assert a_try(3).submit(BODY).video.id == first.video.id
    assert paid(relay) == 1


def test_a_video_that_was_submitted_in_the_other_form_is_not_submitted_again(relay, a_try, connect):
    first = a_try().submit(BODY)
    connect(extra={"api": "openai"})
    relay.set_faults("query:status=404:invalid_url")  # relays that serve only one form don't know the other's address
    with pytest.raises(VeoNotFoundError, match="Nothing was submitted"):
        a_try(2).submit(BODY)
    connect()
    relay.set_faults()
    assert a_try(3).submit(BODY).video.id == first.video.id
    assert paid(relay) == 1


def test_a_video_that_is_not_visible_yet_is_waited_for(relay, a_try):
    relay.set_faults("not-found-first=2@1")
    first = a_try().submit(BODY)
    assert a_try(2).submit(BODY).video.id == first.video.id
    assert paid(relay) == 1


@pytest.mark.parametrize("fault", ["query:bare=502", "query:drop-before", "query:status=503", "query:rate-limit"])
def test_record_stays_while_the_relay_does_not_answer(relay, a_try, fault):
    first = a_try().submit(BODY)
    relay.set_faults(fault)
    with pytest.raises((VeoUnavailableError, VeoRateLimitError)) as caught:
        a_try(2).submit(BODY)
    assert not caught.value.final
    assert f"Video {first.video.id} is on record. Nothing was submitted" in str(caught.value)
    relay.set_faults()
    assert a_try(3).submit(BODY).video.id == first.video.id
    assert creates(relay) == 1


def test_temporarily_wrong_key_bills_nothing(relay, a_try, connect):
    first = a_try().submit(BODY)
    connect(password=CANARY + "-wrong")
    with pytest.raises(VeoAuthenticationError):
        a_try(2).submit(BODY)
    connect()
    assert a_try(3).submit(BODY).video.id == first.video.id
    assert creates(relay) == 1


def test_a_key_that_was_rotated_is_the_same_account(relay, a_try, connect):
    first = a_try().submit(BODY)
    relay.configure(api_key="another-key")
    connect(password="another-key")
    assert a_try(2).submit(BODY).video.id == first.video.id
    relay.configure(api_key=CANARY)


def test_a_changed_request_is_submitted_and_the_log_says_what_changed(relay, a_try, caplog):
    first = a_try().submit(BODY)
    second = a_try(2).submit(OTHER)
    assert (paid(relay), paid(relay, OTHER)) == (1, 1)
    for part in first.video.id, "prompt: was 'a cow flies', is 'a dog swims'", "model: was 'veo3-fast', is 'veo3'":
        assert part in caplog.text
    assert a_try(3).submit(OTHER).video.id == second.video.id


def test_changed_account_is_billed_again(relay, a_try, caplog, monkeypatch):
    a_try().submit(BODY)
    monkeypatch.setenv("AIRFLOW_CONN_VEO_TEAM", os.environ["AIRFLOW_CONN_VEO_DEFAULT"])
    a_try(2, conn_id="veo_team").submit(BODY)
    assert paid(relay) == 2
    assert "account: was 'veo_default', is 'veo_team'" in caplog.text


def test_two_connections_may_share_an_account(relay, a_try, monkeypatch):
    first = a_try().submit(BODY)
    shared = {**json.loads(os.environ["AIRFLOW_CONN_VEO_DEFAULT"]), "extra": {"account": "veo_default"}}
    monkeypatch.setenv("AIRFLOW_CONN_VEO_TEAM", json.dumps(shared))
    assert a_try(2, conn_id="veo_team").submit(BODY).video.id == first.video.id
    assert paid(relay) == 1


def test_another_url_of_the_same_relay_is_the_same_account(relay, a_try, monkeypatch):
    first = a_try().submit(BODY)
    elsewhere = {
        **json.loads(os.environ["AIRFLOW_CONN_VEO_DEFAULT"]),
        "host": relay.url.replace("127.0.0.1", "LOCALHOST"),
    }
    monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", json.dumps(elsewhere))
    assert a_try(2).submit(BODY).video.id == first.video.id
    assert paid(relay) == 1


LOST = ["drop-after", "reset-after", "bare-after=502", "cut-off", "empty", "no-json", "no-id", "bare=504"]


@pytest.mark.parametrize("fault", LOST)
def test_what_may_have_been_accepted_is_not_sent_again(relay, a_try, fault, journal):  # noqa: F811
    relay.set_faults(f"{fault}@1")
    for number in 1, 2, 3:
        with pytest.raises(VeoAmbiguousSubmitError) as caught:
            a_try(number).submit(BODY)
    assert creates(relay) == 1
    record = journal.read()
    for part in (
        "It can't be known whether the request was accepted",
        f"Try 1 of this task began to submit a video at {record.intended_at}",
        "prompt: a cow flies",
        "model: veo3-fast",
        f"Possibly sent to {relay.url} at ",
        "set existing_veo_task_id to its id",
        "on_ambiguous_submit='resubmit'",
        journal.where_intent,
    ):
        assert part in str(caught.value)
    assert CANARY not in str(caught.value)


def test_first_error_of_lost_answer_says_what_to_do(relay, a_try, journal):  # noqa: F811
    relay.set_faults("bare-after=502@1")
    with pytest.raises(VeoAmbiguousSubmitError) as caught:
        a_try().submit(BODY)
    assert caught.value.status_code == 502
    for part in "set existing_veo_task_id to its id", "on_ambiguous_submit='resubmit'", journal.where_intent:
        assert part in str(caught.value)


def test_changed_request_is_not_sent_after_unknown_outcome(relay, a_try):
    relay.set_faults("drop-after@1")
    with pytest.raises(VeoAmbiguousSubmitError):
        a_try().submit(BODY)
    with pytest.raises(VeoAmbiguousSubmitError, match="a cow flies"):
        a_try(2).submit(OTHER)
    assert paid(relay, OTHER) == 0


def test_it_is_sent_again_on_request(relay, a_try, caplog):
    relay.set_faults("drop-after@1")
    with pytest.raises(VeoAmbiguousSubmitError, match="it may be billed twice") as caught:
        a_try(on_ambiguous_submit="resubmit").submit(BODY)
    assert not caught.value.final
    second = a_try(2, on_ambiguous_submit="resubmit").submit(BODY)
    assert paid(relay) == 2
    assert "it is submitted again, and may be billed twice" in caplog.text
    assert a_try(3).submit(BODY).video.id == second.video.id


def test_it_is_sent_again_when_the_record_is_removed(relay, a_try, journal):  # noqa: F811
    relay.set_faults("drop-after@1")
    with pytest.raises(VeoAmbiguousSubmitError):
        a_try().submit(BODY)
    journal.forget(journal.read())
    a_try(2).submit(BODY)
    assert paid(relay) == 2


def test_found_video_is_attached_and_recorded(relay, a_try):
    relay.set_faults("drop-after@1")
    with pytest.raises(VeoAmbiguousSubmitError):
        a_try().submit(BODY)
    (video,) = relay.videos()
    attached = a_try(2).attach(video["id"], BODY)
    assert attached.video.id == video["id"]
    assert a_try(3).attach(video["id"], BODY).at == attached.at
    assert a_try(4).submit(BODY).video.id == video["id"]
    assert creates(relay) == 1


REFUSED = {
    "status=400": VeoRequestRejectedError,
    "quota": Exception,
    "status=401": VeoAuthenticationError,
    "rate-limit": VeoRateLimitError,
    "status=503:model_not_found": VeoUnavailableError,
    "redirect": VeoWrongHostError,
    "envelope=model_not_found": VeoUnavailableError,
}


@pytest.mark.parametrize(("fault", "error"), REFUSED.items())
def test_refused_request_leaves_no_record(relay, a_try, fault, error, journal):  # noqa: F811
    relay.set_faults(fault)
    with pytest.raises(error):
        a_try().submit(BODY)
    assert journal.read() is None
    relay.set_faults()
    a_try(2).submit(BODY)
    assert paid(relay) == 1


def test_a_relay_that_is_not_reached_leaves_nothing_on_record(a_try, connect, journal, unused_port):  # noqa: F811
    connect(host=f"http://127.0.0.1:{unused_port}", port=None)
    with pytest.raises(VeoUnavailableError):
        a_try().submit(BODY)
    assert journal.read() is None


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("record", [b"garbage", b'{"format": 2}', b""])
def test_invalid_record_sends_nothing(relay, a_try, journal, record):  # noqa: F811
    a_try().submit(BODY)
    path = journal._store._path("veo_submission")
    path.fs.pipe_file(path.path, record)
    with pytest.raises(VeoJournalRecordError, match="Nothing was sent"):
        a_try(2).submit(BODY)
    assert creates(relay) == 1


def test_unreadable_record_sends_nothing(relay, a_try, tmp_path, monkeypatch):
    (tmp_path / "nightly").write_text("a file where a folder should be")
    monkeypatch.setenv("AIRFLOW__VEO__JOURNAL_PATH", str(tmp_path))
    with pytest.raises(VeoJournalError, match="NotADirectoryError"):
        a_try().submit(BODY)
    assert creates(relay) == 0


def test_concurrent_processes_are_billed_once(relay, a_try):
    relay.set_faults("slow=0.3")
    tries, errors, ids = [a_try(number) for number in range(8)], [], []

    def run(each):
        try:
            ids.append(each.submit(BODY).video.id)
        except (VeoJournalError, VeoAmbiguousSubmitError) as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in tries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) + len(ids) == len(tries)
    assert paid(relay) == creates(relay) <= 1


@pytest.mark.parametrize("changes", [{"state": "succeeded"}, {"state": "stored"}, {"failure": {"kind": "VeoError"}}])
def test_a_record_in_a_state_that_no_task_writes_sends_nothing(relay, a_try, journal, changes):  # noqa: F811
    a_try().submit(BODY)
    store = journal._store
    store.set("veo_submission", {**store.get("veo_submission"), **changes})
    with pytest.raises(VeoJournalRecordError, match="not the record of a task with one video"):
        a_try().submit(BODY)
    assert creates(relay) == 1
