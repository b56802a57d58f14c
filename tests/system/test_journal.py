"""What a later try, or a task that somebody clears, does about what is on record: through a real scheduler and worker.

The record is in Airflow's task state store. What is on record, and what is asked for, is changed the way a user does
it: through the REST API, which is what the UI uses.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.airflow_lines import EARLIER_TRIES, TASK_INSTANCES
from tests.conftest import CANARY
from tests.system.conftest import make_airflow
from tests.system.dags_journal.veo_journal import IMAGE
from tests.system.journal_rounds import INTENT, Story, ask
from tests.system.services import Services

pytestmark = pytest.mark.timeout(1200)

DAGS = Path(__file__).parent / "dags_journal"
WHERE = "the key 'veo_submission' on this task instance's page in Airflow, under Storage > Task State Store"
ANOTHER_IMAGE = "https://example.com/another.png?signature=of-the-image"
CHANGED = {
    "prompt_changed.prompt": "prompt_changed: a paper plane",
    "images_changed.images": ANOTHER_IMAGE,
    "account_changed.veo_conn_id": "veo_second",
}
CHANGED_TASKS = [name.partition(".")[0] for name in CHANGED]
GARBAGE = {"text_on_record": "yes, it was sent", "object_on_record": {"id": "veo3:1-some-video"}}
UNCHANGED = ["submits", "waits", "defers", "mapped[0]", "mapped[1]", "decorated"]
FAULTS = (
    "drop-after@prompt=answer_lost:,1",
    "drop-after@prompt=looked_up:,1",
    "drop-after@prompt=resubmitted:,1",
    "drop-after@prompt=resubmitted_by_policy:,1",
    "status=400@prompt=refused:",
    "rate-limit@prompt=refused_for_now:,1",
    "failed=blocked by policy@prompt=generation_fails:,1",
    "failed=blocked by policy@prompt=generation_fails_deferred:,1",
    "not-found-first=1000@prompt=forgotten:,1",
    "query:status=503@prompt=unreachable:,1-5",
    "rate-limit=1@prompt=asked_for_patience:,1-5",
    "status=400@prompt=own_hook:",
)


def seconds_between(earlier, later):
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def set_variables(services, values):
    for key, value in values.items():
        ask(services, "POST", "/api/v2/variables", {"key": key, "value": value})


def clear_while_waiting(services, relay, main):
    """Clear a task that waits, and let no video become ready until it waits again."""
    task_id = "cleared_while_waiting"

    def wait_until_deferred(tries):
        services.wait_until(
            lambda: (
                services.ends_seen(main.dag_id, task_id, main.run_id) == tries
                and any((row.task_id, row.state, row.try_number) == (task_id, "deferred", tries) for row in main.rows())
            ),
            what=f"try {tries} of {task_id} to wait",
        )

    wait_until_deferred(1)
    main.clear(task_id)
    wait_until_deferred(2)
    relay.configure(generation_seconds=1)


def clear_after_changes(services, main):
    ids = {name: main.accepted(name)[0] for name in ("looked_up", "text_on_record")}
    records = {**GARBAGE, "future_on_record": {**main.records()["future_on_record"], "format": 99}}
    for task_id, record in records.items():
        main.overwrite(task_id, record)
    set_variables(services, {**CHANGED, "looked_up.existing_veo_task_id": ids["looked_up"]})
    unchanged = {name.partition("[")[0] for name in UNCHANGED}
    main.clear(*unchanged, *CHANGED_TASKS, *records, "not_durable", "answer_lost", "looked_up")
    main.end()

    main.remove("answer_lost", INTENT)
    main.remove("object_on_record")
    ask(services, "DELETE", "/api/v2/variables/looked_up.existing_veo_task_id")
    set_variables(services, {"text_on_record.existing_veo_task_id": ids["text_on_record"]})
    main.clear("answer_lost", "looked_up", *GARBAGE)
    main.end()


def take_the_store_away(services, relay, recorded):
    """Clear a task, and start another, while the table of the records is not there. Then put it back."""
    services.airflow.query("ALTER TABLE task_state_store RENAME TO task_state_store_away")
    recorded.clear("stored")
    fresh = Story(services, relay, "veo_store_away", "store_fresh")

    def failed(story, tries):
        (row,) = story.rows()
        return row.try_number > tries or (row.try_number == tries and row.state == "up_for_retry")

    services.wait_until(
        lambda: failed(recorded, 2) and failed(fresh, 1), what="a try of each to fail without the store"
    )
    meanwhile = len(recorded.accepted("stored")), len(fresh.accepted("stored"))
    services.airflow.query("ALTER TABLE task_state_store_away RENAME TO task_state_store")
    recorded.end()
    fresh.end()
    return SimpleNamespace(recorded=recorded.rounds["stored"], fresh=fresh.rounds["stored"], meanwhile=meanwhile)


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("journal") / "airflow"
    shutil.copytree(migrated_home, home)
    with sandbox.running(generation_seconds=3600, api_key=CANARY, faults=FAULTS) as relay:
        connections = {f"AIRFLOW_CONN_VEO_{name}": relay.connection for name in ("DEFAULT", "SECOND")}
        with Services(make_airflow(home, DAGS, **connections), parallelism=6) as services:
            in_vain = Story(services, relay, "veo_asked_for_in_vain")
            in_vain.end()
            in_vain.clear("forgotten", "unreachable")  # a minute passes before a video counts as forgotten
            main = Story(services, relay, "veo_journal")
            others = [Story(services, relay, dag_id) for dag_id in ("veo_patience", "veo_policy_by_default")]
            stored = Story(services, relay, "veo_store_away", "store_recorded")
            clear_while_waiting(services, relay, main)
            for story in (stored, main):
                story.end()
            clear_after_changes(services, main)
            for story in (*others, in_vain):
                story.end()
            away = take_the_store_away(services, relay, stored)
        yield SimpleNamespace(
            airflow=services.airflow,
            rounds={name: rounds for story in (main, in_vain, *others) for name, rounds in story.rounds.items()},
            away=away,
            tables=services.airflow.tables(),
        )


@pytest.mark.parametrize("name", UNCHANGED)
def test_a_cleared_task_returns_the_same_video_for_nothing(ran, name):
    first, again = ran.rounds[name]
    (video,) = again.accepted
    assert (first.state, again.state, again.sent) == ("success", "success", 1), "\n".join(first.tries)
    assert first.xcoms["return_value"] == again.xcoms["return_value"] == video
    assert first.xcoms.keys() == again.xcoms.keys()
    assert again.record == first.record
    assert (again.record["state"], again.record["veo_task_id"]) == ("accepted", video)
    assert f"Continuing with video {video}" in again.only_try
    assert f"remove the record ({WHERE}), and clear this task" in again.only_try


@pytest.mark.parametrize("name", ["waits", "defers"])
def test_a_cleared_wait_has_the_videos_url_again(ran, name):
    first, again = ran.rounds[name]
    assert again.xcoms["video_url"] == first.xcoms["video_url"] == again.xcoms["veo_video"]["video_url"] is not None


def test_a_task_that_is_cleared_while_it_waits_goes_on_with_its_video(ran):
    (both,) = ran.rounds["cleared_while_waiting"]
    (video,) = both.accepted
    assert (both.state, both.sent, both.record["veo_task_id"]) == ("success", 1, video)
    assert both.xcoms["video_url"]
    first, again = both.tries
    assert f"Accepted: video {video}" in first
    assert f"Continuing with video {video}" in again
    assert f"Deferred: polling video {video} from the triggerer, for at most " in again


@pytest.mark.parametrize("name", CHANGED_TASKS)
def test_what_is_changed_before_clearing_is_submitted_and_the_log_names_the_old_video(ran, name):
    first, again = ran.rounds[name]
    old, new = again.accepted
    assert (again.state, again.sent, again.xcoms["return_value"]) == ("success", 2, new)
    assert first.record["veo_task_id"] == old
    assert (again.record["veo_task_id"], again.record["try_number"]) == (new, 2)
    assert f"Video {old}" in again.only_try
    assert first.record["accepted_at"] in again.only_try


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("prompt_changed", "prompt: was 'prompt_changed: a paper boat drifts down a canal', is 'prompt_changed: a pap"),
        ("images_changed", "images: was '1 with sha256 "),
        ("account_changed", "account: was 'veo_default', is 'veo_second'"),
    ],
    ids=CHANGED_TASKS,
)
def test_the_log_says_what_has_changed_and_nothing_else(ran, name, change):
    _, again = ran.rounds[name]
    (line,) = [line for line in again.only_try.splitlines() if ": was " in line]
    assert line.startswith(change)


def test_a_lost_answer_fails_the_task_for_good_and_the_message_says_all_that_helps(ran):
    lost = ran.rounds["answer_lost"][0]
    assert (lost.state, lost.sent, len(lost.accepted), set(lost.xcoms)) == ("failed", 1, 1, {"veo_spend"})
    assert (lost.record["state"], lost.record.get("veo_task_id")) == ("intended", None)
    for detail in (
        f" at {lost.record['intended_at']}",
        "Possibly sent to http://127.0.0.1:",
        "connection: veo_default",
        "model: veo3.1-components",
        "prompt: answer_lost: a paper boat drifts down a canal",
        "images: 1 with sha256 ",
        "set existing_veo_task_id to its id",
        "set on_ambiguous_submit='resubmit'",
        f"remove the record of the request ({WHERE.replace('veo_submission', INTENT)})",
    ):
        assert detail in lost.only_try


def test_a_lost_answer_that_is_cleared_sends_nothing_until_its_record_is_removed(ran):
    lost, unchanged, removed = ran.rounds["answer_lost"]
    assert (unchanged.state, unchanged.sent, unchanged.record) == ("failed", 1, lost.record)
    assert f"Try 1 of this task began to submit a video at {lost.record['intended_at']}" in unchanged.only_try
    assert "set existing_veo_task_id to its id" in unchanged.only_try
    assert (removed.state, removed.sent) == ("success", 2)
    assert removed.xcoms["return_value"] == removed.record["veo_task_id"] == removed.accepted[1]


def test_a_lost_answer_whose_video_was_looked_up_pays_nothing_more(ran):
    lost, attached, unset = ran.rounds["looked_up"]
    (video,) = unset.accepted
    assert (lost.state, attached.state, unset.state, unset.sent) == ("failed", "success", "success", 1)
    assert attached.xcoms["return_value"] == unset.xcoms["return_value"] == video
    assert f"Attaching to video {video}: nothing is submitted or billed" in attached.only_try
    assert (attached.record["state"], attached.record["veo_task_id"]) == ("accepted", video)
    assert f"Continuing with video {video}" in unset.only_try
    assert unset.record == attached.record


@pytest.mark.parametrize("name", ["resubmitted", "resubmitted_by_policy"])
def test_a_lost_answer_is_submitted_again_where_that_is_asked_for(ran, name):
    (both,) = ran.rounds[name]
    assert (both.state, both.sent, len(both.accepted)) == ("success", 2, 2)
    assert both.xcoms["return_value"] == both.record["veo_task_id"] == both.accepted[1]
    first, second = both.tries
    assert "the next try submits it again, and it may be billed twice" in first
    assert "on_ambiguous_submit is 'resubmit': it is submitted again, and may be billed twice" in second


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("text_on_record", "expected a JSON object, got 'yes, it was sent'"),
        ("object_on_record", "not the record of a submission"),
        ("future_on_record", "not the record of a submission: it has format 99"),
    ],
    ids=["text", "object", "future"],
)
def test_a_record_that_cannot_be_understood_fails_for_good_and_sends_nothing(ran, name, problem):
    first, garbled = ran.rounds[name][:2]
    assert (garbled.state, garbled.sent, garbled.accepted) == ("failed", 1, first.accepted)
    assert garbled.record == GARBAGE.get(name, {**first.record, "format": 99})
    assert f"earlier is invalid: {problem}" in garbled.only_try
    assert f"The record is {WHERE}" in garbled.only_try


def test_the_ways_on_from_a_record_that_cannot_be_understood_are_ways_on(ran):
    attached = ran.rounds["text_on_record"][2]
    assert (attached.state, attached.sent, [attached.record["veo_task_id"]]) == ("success", 1, attached.accepted)
    removed = ran.rounds["object_on_record"][2]
    assert (removed.state, removed.sent, removed.record["veo_task_id"]) == ("success", 2, removed.accepted[1])


def test_nothing_is_sent_while_the_record_cannot_be_read(ran):
    assert ran.away.meanwhile == (1, 0)
    for log in ran.away.recorded[1].tries[0], ran.away.fresh[0].tries[0]:
        assert "Could not read the record of what this task instance submits (veo_submission)" in log
        assert "Nothing is sent without it, because a video could be billed twice" in log


def test_when_the_record_can_be_read_again_each_video_is_paid_for_once(ran):
    before, recorded = ran.away.recorded
    assert (recorded.state, recorded.sent, recorded.record) == ("success", 1, before.record)
    assert recorded.xcoms["return_value"] == before.xcoms["return_value"]
    (fresh,) = ran.away.fresh
    assert (fresh.state, fresh.sent, [fresh.record["veo_task_id"]]) == ("success", 1, fresh.accepted)


def test_a_refused_request_leaves_no_record(ran):
    (refused,) = ran.rounds["refused"]
    assert (refused.state, refused.sent, refused.accepted, refused.record) == ("failed", 1, [], None)
    assert "HTTP 400" in refused.only_try


def test_a_request_that_was_refused_for_now_is_submitted_by_the_next_try(ran):
    (both,) = ran.rounds["refused_for_now"]
    assert (both.state, both.sent, [both.record["veo_task_id"]]) == ("success", 2, both.accepted)
    assert "HTTP 429" in both.tries[0]
    assert len(both.tries) == 2


@pytest.mark.parametrize("name", ["generation_fails", "generation_fails_deferred"])
def test_a_retry_after_a_failed_generation_submits_again_and_says_so(ran, name):
    (both,) = ran.rounds[name]
    failed, made = both.accepted
    assert (both.state, both.sent, both.record["veo_task_id"]) == ("success", 2, made)
    assert both.xcoms["return_value"] == made
    assert both.xcoms["video_url"]
    first, second = both.tries
    assert f"Video {failed} could not be generated" in first
    assert f"Video {failed} could not be generated (blocked by policy): submitting it again" in second


def test_a_video_that_the_relay_has_forgotten_is_submitted_again(ran):
    first, again = ran.rounds["forgotten"]
    old, new = again.accepted
    assert (again.state, again.sent, again.record["veo_task_id"]) == ("success", 2, new)
    assert f"The relay no longer knows video {old}: submitting it again" in again.only_try
    assert seconds_between(first.record["accepted_at"], again.record["accepted_at"]) > 60


def test_the_record_says_when_a_request_was_sent_and_not_when_the_try_began(ran):
    _, again = ran.rounds["forgotten"]
    assert seconds_between(again.record["intended_at"], again.record["accepted_at"]) < 30


def test_a_relay_that_cannot_be_reached_costs_a_try_and_no_video(ran):
    first, again = ran.rounds["unreachable"]
    (video,) = again.accepted
    assert (again.state, again.sent, again.record) == ("success", 1, first.record)
    assert again.xcoms["return_value"] == video
    unreached, reached = again.tries
    assert f"Tried to poll video {video}, and the relay answered HTTP 503" in unreached
    assert f"Continuing with video {video}" in reached


def test_a_task_that_is_not_durable_pays_each_time_and_records_nothing(ran):
    _, again = ran.rounds["not_durable"]
    assert (again.state, again.sent, len(again.accepted)) == ("success", 2, 2)
    assert ran.airflow.query("SELECT * FROM task_state_store WHERE task_id = 'not_durable'") == []


def test_the_policy_waits_as_long_as_the_relay_asks_and_not_as_long_as_the_task_would(ran):
    (both,) = ran.rounds["asked_for_patience"]
    assert (both.state, both.sent, len(both.accepted), len(both.tries)) == ("success", 6, 1, 2)
    assert "VeoRateLimitError: the relay asked to wait 0:00:01" in both.tries[0]
    earlier, current = (
        f"FROM {table} ti WHERE task_id = 'asked_for_patience'" for table in (EARLIER_TRIES, TASK_INSTANCES)
    )
    ((end,),) = ran.airflow.query(f"SELECT end_date {earlier}")
    ((start,),) = ran.airflow.query(f"SELECT start_date {current}")
    assert 1 <= seconds_between(str(end), str(start)) < 600  # which is retry_delay


def test_the_policy_fails_a_task_of_ones_own_at_once_where_no_retry_helps(ran):
    (refused,) = ran.rounds["own_hook"]
    assert (refused.state, refused.sent, refused.accepted) == ("failed", 1, [])
    assert "VeoRequestRejectedError: no retry can fix it" in refused.only_try


@pytest.mark.parametrize("dag_id", ["veo_patience", "veo_policy_by_default"])
def test_the_scheduler_knows_of_the_policy(ran, dag_id):
    ((data,),) = ran.airflow.query("SELECT data FROM serialized_dag WHERE dag_id = ?", dag_id)
    assert '"has_retry_policy": true' in data
    assert ran.airflow.query("SELECT * FROM import_error") == []


def test_the_records_hold_no_key_and_no_full_image(ran):
    records = ran.tables["task_state_store"]
    assert "images" in records
    assert "signature" not in records
    assert IMAGE[30:90] not in records
    assert CANARY not in records


def test_the_key_is_in_no_table_and_no_file(ran):
    assert [name for name, rows in ran.tables.items() if CANARY in rows] == []
    written = ran.airflow.everything_it_wrote()
    assert "answer_lost: a paper boat" in written
    assert CANARY not in written
