"""A batch that several tasks share: each row is made once, all limits hold in total, and results are one batch's."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AssetAlias

from airflow_provider_veo.operators import VeoMergeShardsOperator, VeoVideoBatchOperator
from airflow_provider_veo.protocol import VeoValidationError
from tests.airflow_lines import ASSET
from tests.unit.task_context import TaskInstance, run

PRICES = {"prices": {"veo3-fast": 0.4, "veo3": 2}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "batch"


@pytest.fixture
def manifest(tmp_path):
    """Write the manifest that all shards read: ``manifest(*rows)``."""
    path = tmp_path / "prompts.jsonl"

    def write(*rows):
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    write.uri = path.as_uri()
    write(*({"key": f"k{number:02}", "prompt": f"prompt {number}"} for number in range(24)))
    return write


@pytest.fixture
def shard(relay, folder, manifest, ti):
    """Return the task instance of a shard, and a function that makes its task: ``shard(3)``."""
    relay.configure(video_seconds=0.2)

    def of(index, shards=4, **arguments):
        instance = TaskInstance()
        instance.map_index = index
        given = {"task_id": "make", "manifest": manifest.uri, "result_path": folder.as_uri(), "model": "veo3-fast"}
        given |= {"poll_interval": 0.05, "download": False, "deferrable": False, "shard": index, "shards": shards}
        return instance, lambda: VeoVideoBatchOperator(**{**given, **arguments})

    return of


@pytest.fixture
def run_shard(shard):
    def go(index, **arguments):
        instance, make = shard(index, **arguments)
        return run(instance, make)

    return go


@pytest.fixture
def merge(folder):
    """Run the merging task, and return its result and its XComs."""

    def go(**arguments):
        instance = TaskInstance("merge_shards")
        task = VeoMergeShardsOperator(task_id="merge_shards", result_path=folder.as_uri(), **arguments)
        try:
            return task.execute(instance.context), instance.xcoms
        except AirflowFailException as error:
            return error, instance.xcoms

    return go


@pytest.fixture
def rows(folder):
    return lambda: [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def rows_of_shards(folder):
    files = sorted(folder.glob("_shards/*/results.jsonl"))
    return {file.parent.name: [json.loads(line) for line in file.read_text().splitlines()] for file in files}


def accepted(relay):
    return relay.stats()["accepted_by_prompt"]


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "mistakes"),
    [
        ({"shards": 0}, ["shards: expected a whole number above 0, got 0"]),
        ({"shards": 2.0}, ["shards: expected a whole number above 0, got 2.0"]),
        ({"shards": 8, "shard": 8}, ["shard: expected a whole number from 0 to 7, got 8"]),
        ({"shards": 8, "shard": -1}, ["shard: expected a whole number from 0 to 7, got -1"]),
        ({"shards": 2, "shard": True}, ["shard: expected a whole number from 0 to 1, got True"]),
        ({"shard": 1}, ["shard: expected a whole number from 0 to 0, got 1"]),
        (
            {"shards": 8, "max_in_flight": 7},
            ["max_in_flight: expected at least 8, one video for each shard, got 7"],
        ),
    ],
)
def test_mistake_in_a_dag_file_is_reported(arguments, mistakes):
    with pytest.raises(VeoValidationError) as caught:
        VeoVideoBatchOperator(task_id="make", jobs=["a cow"], result_path="file:///videos", **arguments)
    assert list(caught.value.mistakes) == mistakes


def test_mistake_in_a_row_of_another_shard_is_reported_by_each_before_anything_is_sent(relay, run_shard, manifest):
    manifest({"key": "a", "prompt": "a cow"}, {"key": "b", "prompt": " "})
    for index in range(2):
        with pytest.raises(AirflowFailException, match=r"prompts.jsonl, line 2: prompt: expected a non-empty string"):
            run_shard(index, shards=2)
    assert relay.stats()["requests"] == {}


@pytest.mark.parametrize("limits", [{"max_cost": 9.5}, {"max_videos": 23}])
def test_limit_concerns_the_jobs_of_all_shards(relay, run_shard, connect, limits):
    connect(extra=PRICES)
    for index in range(4):
        with pytest.raises(AirflowFailException, match=f"{next(iter(limits))}: expected at most"):
            run_shard(index, **limits)
    assert relay.stats()["requests"] == {}


def test_limit_concerns_the_recorded_jobs_of_all_shards(relay, shard, connect):
    connect(extra=PRICES)
    instance, make = shard(0, max_cost=9.6)
    make().execute(instance.context)
    sent = relay.stats()["requests"]["create"]
    for limits in {"max_cost": 9.5}, {"max_videos": 23}:
        instance.next_try()
        with pytest.raises(AirflowFailException, match=r"expected at most .*, got"):
            shard(0, **limits)[1]().execute(instance.context)
    assert relay.stats()["requests"]["create"] == sent


def test_value_that_differs_between_shards_can_not_be_rendered(relay, run_shard, manifest):
    manifest(
        {"prompt": "{{ ds | default('x') }} {{ params }}"}, {"prompt": "{{ map_index }}"}, {"prompt": "{{ task_id }}"}
    )
    with pytest.raises(AirflowFailException) as caught:
        run_shard(0, render_prompts=True)
    for line, name in (2, "map_index"), (3, "task_id"):
        assert f"line {line}: prompt: '{name}' is undefined: it is not available with shards" in str(caught.value)


# --- the division ----------------------------------------------------------------------------------------------------


def test_each_row_is_made_once_and_the_results_are_one_batch(relay, run_shard, merge, folder, rows, connect):
    connect(extra=PRICES)
    for index in range(4):
        run_shard(index, download=True)
    assert accepted(relay) == {f"prompt {number}": 1 for number in range(24)}
    divided = rows_of_shards(folder)
    assert list(divided) == ["0-of-4", "1-of-4", "2-of-4", "3-of-4"]
    assert all(divided.values())
    assert not (folder / "results.jsonl").exists()
    assert not list(folder.glob("_shards/*/report.html"))

    done, xcoms = merge()
    assert [row["key"] for row in rows()] == [f"k{number:02}" for number in range(24)]
    assert sorted(map(json.dumps, rows())) == sorted(json.dumps(row) for each in divided.values() for row in each)
    assert (done["total"], done["succeeded"], done["cost"], done["possible_cost"]) == (24, 24, 9.6, 0)
    assert done["results"] == (folder / "results.jsonl").as_uri()
    assert len(list((folder / "videos").glob("*.mp4"))) == 24
    for row in rows():
        assert row["file"] in {path.as_uri() for path in (folder / "videos").iterdir()}
    report = (folder / "report.html").read_text()
    assert report.count('src="data:image/jpeg;base64,') == 24
    assert xcoms["report_path"] == done["report"] == (folder / "report.html").as_uri()
    assert xcoms["summary_text"].split("\n")[1:3] == ["24 of 24 videos succeeded", "Cost: 9.6"]
    summary = json.loads((folder / "summary.json").read_text())
    assert {name: summary[name] for name in done if name != "report"} == {
        k: v for k, v in done.items() if k != "report"
    }
    assert summary["models"] == {"veo3-fast": {"succeeded": 24}}
    assert (summary["task_id"], summary["account"]) == ("merge_shards", "veo_default")
    assert [(each["shard"], each["map_index"]) for each in summary["shards"]] == [(n, n) for n in range(4)]


def test_rows_that_are_added_and_moved_are_not_billed_again(relay, run_shard, manifest, merge, rows):
    # The last two have the same request, and are told apart by their order. One of them is given its defaults.
    before = [{"prompt": f"prompt {number}"} for number in range(12)]
    twins = [{"prompt": "twin"}, {"prompt": "twin", "model": "veo3-fast", "aspect_ratio": "16:9"}]
    manifest(*before, *twins)
    for index in range(4):
        run_shard(index)
    manifest(*reversed(twins), {"prompt": "new"}, *reversed(before))
    for index in range(4):
        run_shard(index)
    assert accepted(relay) == {**{f"prompt {number}": 1 for number in range(12)}, "twin": 2, "new": 1}
    done, _ = merge()
    assert (done["total"], done["succeeded"]) == (15, 15)
    assert [row["request"]["prompt"] for row in rows()][:3] == ["twin", "twin", "new"]


def test_shard_without_jobs_succeeds(relay, run_shard, manifest, merge):
    manifest({"key": "a", "prompt": "a cow"})
    done = [run_shard(index) for index in range(4)]
    assert sorted(each["total"] for each in done) == [0, 0, 0, 1]
    assert merge()[0]["succeeded"] == 1


def test_another_number_of_shards_is_refused(relay, run_shard, folder):
    run_shard(0, shards=4)
    sent = relay.stats()["requests"]
    files = sorted(folder.rglob("*"))
    for shards in (1, 2, 8):
        with pytest.raises(AirflowFailException, match=f"began with shards=4, and this task has shards={shards}"):
            run_shard(0, shards=shards)
    assert (relay.stats()["requests"], sorted(folder.rglob("*"))) == (sent, files)


def test_batch_that_began_without_shards_is_not_divided(relay, run_shard, folder):
    run_shard(0, shards=1)
    sent = relay.stats()["requests"]
    with pytest.raises(AirflowFailException, match="began with shards=1, and this task has shards=4"):
        run_shard(0, shards=4)
    assert (relay.stats()["requests"], (folder / "_shards").exists()) == (sent, False)


def test_shard_that_belongs_to_another_task_instance_is_refused(relay, run_shard, shard):
    run_shard(2)
    sent = relay.stats()["requests"]
    instance, make = shard(2)
    instance.map_index = 3
    with pytest.raises(AirflowFailException, match="belongs to another task instance"):
        make().execute(instance.context)
    assert relay.stats()["requests"] == sent


def test_cleared_shard_submits_nothing_again(relay, run_shard):
    for index in range(4):
        run_shard(index)
    sent = relay.stats()["requests"]["create"]
    run_shard(1)
    assert relay.stats()["requests"]["create"] == sent == 24


# --- what is divided -------------------------------------------------------------------------------------------------


def test_videos_in_flight_and_requests_are_divided(shard):
    options = [shard(index, max_in_flight=10, requests_per_minute=60)[1]()._options("") for index in range(4)]
    assert [each.max_in_flight for each in options] == [3, 3, 2, 2]
    assert [each.requests_per_minute for each in options] == [15] * 4


def test_the_triggerer_polls_with_this_shards_part_of_the_requests(shard):
    from tests.unit.task_context import arguments_of, deferral

    instance, make = shard(1, deferrable=True, requests_per_minute=6000)
    _, arguments = arguments_of(deferral(make().execute, instance.context))
    assert arguments["requests_per_minute"] == 1500


def test_resubmissions_of_all_shards_stay_within_the_budget(relay, run_shard, merge, connect):
    """24 videos for 9.6 are within 12; all fail, and 30 submissions are all that 12 pays for."""
    connect(extra=PRICES)
    relay.set_faults("failed=no luck")
    for _ in range(2):
        for index in range(4):
            with pytest.raises(AirflowFailException):
                run_shard(index, max_cost=12, attempts_per_video=5)
    sent = sum(accepted(relay).values())
    assert 24 < sent <= 30
    error, xcoms = merge()
    assert "0 of 24 jobs succeeded" in str(error)
    assert "24 failed" in xcoms["summary_text"]


def test_budget_holds_if_the_manifest_is_replaced_between_the_starts_of_shards(relay, run_shard, manifest, connect):
    connect(extra=PRICES)
    run_shard(0, shards=2, max_cost=9.6)
    manifest(*({"key": f"other {number}", "prompt": f"other {number}"} for number in range(24)))
    run_shard(1, shards=2, max_cost=9.6)
    first = sum(prompt.startswith("prompt") for prompt in accepted(relay))
    second = sum(prompt.startswith("other") for prompt in accepted(relay))
    assert first + second <= 24
    assert second <= 24 - first
    # The first one reads the new manifest now, but what it has spent is spent.
    with pytest.raises(AirflowFailException, match=r"is already spent.*This is the part of one shard"):
        run_shard(0, shards=2, max_cost=9.6)
    assert sum(accepted(relay).values()) <= 24


def test_unusable_record_of_a_reserved_budget_sends_nothing(relay, run_shard, folder, connect):
    connect(extra=PRICES)
    run_shard(0, max_cost=20)
    sent = relay.stats()["requests"]
    (folder / "_shards" / "0-of-4" / "budget.json").write_text('{"reserved": "NaN"}')
    with pytest.raises(AirflowFailException, match="what a shard of this batch has reserved of max_cost"):
        run_shard(1, max_cost=20)
    assert relay.stats()["requests"] == sent


# --- merging ---------------------------------------------------------------------------------------------------------


def test_merging_reports_a_shard_without_results_and_writes_those_of_the_others(relay, run_shard, merge, rows, folder):
    for index in (0, 1, 3):
        run_shard(index)
    error, xcoms = merge()
    assert "2 of 4 shards have no results, and their jobs are missing here" in str(error)
    assert len(rows()) == sum(map(len, rows_of_shards(folder).values())) > 0
    assert (folder / "report.html").exists()
    assert xcoms["report_path"]


def test_merging_reports_shards_that_read_different_manifests(relay, run_shard, manifest, merge):
    run_shard(0, shards=2)
    manifest({"key": "a", "prompt": "a cow"}, {"key": "b", "prompt": "a dog"})
    run_shard(1, shards=2)
    error, _ = merge()
    assert "The shards have read different inputs (equal ones: 0; 1)" in str(error)
    for index in range(2):
        run_shard(index, shards=2)
    assert merge()[0]["total"] == 2


def test_merging_fails_if_nothing_succeeded_or_on_request_if_anything_failed(relay, run_shard, merge):
    relay.set_faults("failed=no luck@1")
    for index in range(4):
        run_shard(index)
    assert merge()[0]["failed"] == 1
    error, _ = merge(fail_on_partial_error=True)
    assert "23 of 24 jobs succeeded" in str(error)


def test_merging_refuses_a_folder_without_shards(relay, run_shard, merge, folder):
    run_shard(0, shards=1)
    before = (folder / "results.jsonl").read_bytes()
    error, _ = merge()
    assert "has no shards: expected the result_path of a batch" in str(error)
    assert (folder / "results.jsonl").read_bytes() == before


def test_merging_without_any_results_writes_nothing(relay, run_shard, merge, folder, manifest):
    for index in range(2):
        run_shard(index, shards=2)
        (folder / "_shards" / f"{index}-of-2" / "summary.json").unlink()
    error, xcoms = merge()
    assert "No shard has results. Nothing was written." in str(error)
    assert "0, 1 of 2 shards" in str(error)
    assert (xcoms, (folder / "summary.json").exists()) == ({}, False)


def test_merging_results_that_are_being_written_may_succeed_later(relay, run_shard, merge, folder):
    for index in range(4):
        run_shard(index)
    results = folder / "_shards" / "1-of-4" / "results.jsonl"
    content = results.read_bytes()
    results.write_bytes(content.splitlines(keepends=True)[0])
    with pytest.raises(Exception, match="its task is writing them") as caught:
        merge()
    assert not isinstance(caught.value, AirflowFailException)
    assert not (folder / "results.jsonl").exists()
    results.write_bytes(content)
    assert merge()[0]["total"] == 24


def test_merging_announces_each_file_to_an_alias(relay, run_shard, folder):
    for index in range(4):
        run_shard(index, download=True)
    instance = TaskInstance("merge_shards")
    context = instance.context
    alias = AssetAlias("videos")
    VeoMergeShardsOperator(task_id="merge", result_path=folder.as_uri(), outlets=[alias]).execute(context)
    assert len(getattr(context["outlet_events"][alias], f"{ASSET}_alias_events")) == 24
