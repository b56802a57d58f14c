"""Every mistake in all rows, and the limits of a batch, in one report that can be read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_veo.batch import jobs, manifest
from airflow_provider_veo.batch.rendering import PromptRenderer
from airflow_provider_veo.protocol import VeoValidationError
from tests.unit.batch.test_jobs import IMAGE, connection, error, make, mistake, mistakes, of_csv


def test_max_videos():
    assert len(make(["a", "b"], max_videos=2)) == 2
    assert mistake(["a"] * 3, max_videos=2) == "max_videos: expected at most 2 jobs, got 3"


def test_max_cost_is_compared_without_rounding():
    settings = connection(prices={"veo3-fast": 0.1, "veo3": 0.7})
    make(["a"] * 3, settings=settings, max_cost=0.3)
    make(["a"] * 10_000, settings=settings, max_cost=1000)
    make([{"prompt": "a", "model": "veo3"}] * 3, settings=settings, max_cost=2.1)
    assert mistake(["a"] * 3, settings=settings, max_cost=0.2999) == (
        "max_cost: expected at most 0.2999, got 0.3: 3 of veo3-fast for 0.1 each"
    )


def test_max_cost_counts_each_model_and_no_existing_video():
    settings = connection(prices={"veo3-fast": 0.4, "veo3": 2.0})
    rows = ["a", {"prompt": "b", "model": "veo3"}, {"prompt": "c", "model": "veo3"}]
    there = {"prompt": "d", "model": "veo2", "existing_veo_task_id": "veo2:1"}
    assert len(make([*rows, there], settings=settings, max_cost=4.4)) == 4
    assert mistake([*rows, there], settings=settings, max_cost=4) == (
        "max_cost: expected at most 4, got 4.4: 1 of veo3-fast for 0.4 each, 2 of veo3 for 2 each"
    )


def test_max_cost_needs_a_price_for_each_model_and_nothing_else_does():
    rows = ["a", "b", {"prompt": "c", "model": "veo3"}, {"prompt": "d", "model": "veo2"}]
    make(rows)
    assert mistakes(rows, settings=connection(prices={"veo2": 0}), max_cost=4) == [
        f"max_cost: {model} has no price in the connection's extra, as in "
        f'"prices": {{"{model}": 0.4}}; jobs with it: {count}'
        for model, count in (("veo3-fast", 2), ("veo3", 1))
    ]


def test_max_cost_needs_the_seconds_of_a_price_per_second():
    settings = connection(prices={"veo3-fast": {"per_second": 0.1}, "veo3": {"per_second": 0.75, "seconds": 8}})
    given = {"prompt": "a", "extra_body": {"seconds": "4"}}
    rows = [given, {**given, "model": "veo3"}, {"prompt": "b", "model": "veo3"}]
    make(rows, settings=settings, max_cost=9.4)
    assert mistake(rows, settings=settings, max_cost=9.3) == (
        "max_cost: expected at most 9.3, got 9.4: "
        "1 of veo3-fast for 0.4 each, 1 of veo3 for 3 each, 1 of veo3 for 6 each"
    )
    unknown = [*rows, "c", {"prompt": "d", "extra_body": {"seconds": "auto"}}]
    make(unknown, settings=settings)
    assert mistake(unknown, settings=settings, max_cost=100) == (
        "max_cost: veo3-fast has a price per second, and the request has no valid seconds: set seconds in extra_body, "
        "or for all requests without them in the connection's extra, as in "
        '"prices": {"veo3-fast": {"per_second": 0.1, "seconds": 8}}; jobs with it: 2'
    )


def test_a_row_cannot_make_its_price_negligible():
    settings = connection(prices={"veo3-fast": {"per_second": 0.75, "seconds": 8}})
    rows = [{"prompt": f"a {index}", "extra_body": {"seconds": "0.000000001"}} for index in range(1000)]
    assert mistake(rows, settings=settings, max_cost=1).endswith("jobs with it: 1,000")


def test_mistakes_of_reading_of_the_rows_and_of_the_limits_are_reported_together_in_the_files_order():
    text = (
        "prompt,model,aspect_ratio,modl\n"
        "a,veo3,4:3,\n"
        "b,veo3\n"
        "c,veo3,16:9,\n"
        "d,veo9,1:1,\n"
        "e,veo3,4:3,\n"
        "f,veo3,\n"
        ",veo3,4:3,\n"
    )
    raised = error(text, max_videos=3, settings=connection(prices={"veo3": 2}), max_cost=1)
    assert raised.title == "The batch is not valid: 6 of 7 rows are invalid. Nothing was sent or billed."
    lines = list(raised.mistakes)
    assert lines[0].startswith("prompts.csv, header: unknown column 'modl' (did you mean model?)")
    assert lines[1] == "aspect_ratio: expected 16:9 or 9:16, got '4:3' (prompts.csv, lines 2, 6 and 8)"
    assert lines[2] == "prompts.csv, line 3: got 2 cells, but the header has 4"
    assert {line[:26] for line in lines[3:5]} == {"prompts.csv, line 5: model", "prompts.csv, line 5: aspec"}
    assert lines[5] == "prompts.csv, line 7: got 3 cells, but the header has 4"
    assert lines[6].startswith("prompts.csv, line 8: prompt: expected a non-empty string")
    assert lines[7:] == [
        "max_videos: expected at most 3 jobs, got 5",
        "max_cost: expected at most 1, got 2: 1 of veo3 for 2 each",
    ]


def test_the_title_says_how_many_rows_are_wrong():
    assert "1 of 2 rows is invalid. Nothing was sent or billed." in error(["a", " "]).title
    many = error("prompt,aspect_ratio\n" + "a,4:3\n" * 1200 + "b,\n").title
    assert many == "The batch is not valid: 1,200 of 1,201 rows are invalid. Nothing was sent or billed."
    assert error("").title == "The batch is not valid. Nothing was sent or billed."
    assert error("").mistakes == ("prompts.csv: contains no jobs",)
    assert error(["a"], max_videos=0).title == "The batch is not valid. Nothing was sent or billed."


def test_a_mistake_of_very_many_rows_lists_twenty_of_them():
    found = mistake("prompt,aspect_ratio\n" + "a,4:3\n" * 1000)
    numbers = ", ".join(str(line) for line in range(2, 22))
    assert found == (f"aspect_ratio: expected 16:9 or 9:16, got '4:3' (prompts.csv, lines {numbers} and 980 more)")
    found = mistake([{"prompt": "a", "aspect_ratio": "4:3"}] * 1021)
    assert found.endswith("jobs[18], jobs[19] and 1,001 more)")


@pytest.mark.slow
@pytest.mark.parametrize(("count", "last"), [(201, "and 1 more mistake"), (10_000, "and 9,800 more mistakes")])
def test_after_two_hundred_mistakes_the_others_are_counted_and_the_limits_are_named(count, last):
    rows = [{"prompt": "a", "aspect_ratio": f"{number}:1"} for number in range(count)]
    assert len(mistakes(rows[:200])) == 200
    found = mistakes(rows, max_videos=1)
    assert len(found) == 202
    assert found[199] == "jobs[199]: aspect_ratio: expected 16:9 or 9:16, got '199:1'"
    assert found[200:] == [last, f"max_videos: expected at most 1 jobs, got {count:,}"]
    assert f"{count:,} of {count:,} rows" in error(rows).title


@pytest.mark.parametrize(("count", "end"), [(2, "lines 2 and 3)"), (20, "20 and 21)"), (21, "21 and 1 more)")])
def test_places_are_listed_as_people_do(count, end):
    assert mistake("prompt,aspect_ratio\n" + "a,4:3\n" * count).endswith(end)


def test_no_prompt_and_no_image_is_repeated_in_full():
    text = "a cow that flies " * 20
    rows = [
        {"prompt": [text], "images": [text], "aspect_ratio": text, "enhance_prompt": text, "extra_body": text},
        {"prompt": "a", "images": text, "model": text, "key": text, "existing_veo_task_id": text + "\n" + text},
        {"prompt": f"{{{{ {text} }}}}"},
    ]
    found = mistakes(rows, render=PromptRenderer({}))
    assert len(found) >= 8
    assert all(text not in line for line in found)


def test_values_that_are_nested_without_end_are_mistakes():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for name in ("images", "extra_body", "prompt", "key"):
        assert mistakes([{"prompt": "a", name: deep}])


@settings(max_examples=200)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(manifest.FIELDS),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=5,
            ),
        ),
        max_size=4,
    )
)
def test_whatever_the_rows_hold_there_are_jobs_that_json_knows_or_a_list_of_mistakes(rows):
    try:
        made = make(rows, max_videos=3, max_cost=1, settings=connection(prices={"veo3-fast": 0.4}))
    except VeoValidationError as raised:
        assert raised.mistakes
    else:
        assert len({job.key for job in made}) == len(rows)
        assert [jobs.Job.from_dict(json.loads(json.dumps(job.to_dict()))) for job in made] == made


@pytest.mark.slow
def test_ten_thousand_rows_are_checked():
    text = "key,prompt,images\n" + "".join(f"{n},牛 {n} flies,{IMAGE}\n" for n in range(10_000))
    made = of_csv(text, defaults={"model": "veo3.1"}, settings=connection(prices={"veo3.1": 0.1}), max_cost=1000)
    assert len({job.key for job in made}) == 10_000


@pytest.mark.slow
def test_ten_thousand_rows_that_are_wrong_in_every_field_are_reported():
    row = "x,[a],./a.png|./b.png,veo33,4:3,perhaps,maybe,{broken,7\n"
    header = "key,prompt,images,model,aspect_ratio,enhance_prompt,enable_upsample,extra_body,existing_veo_task_id\n"
    found = mistakes(header + row * 10_000)
    assert len(found) == 9
