"""From rows to jobs: keys that later tries find again, defaults, limits, and every mistake in one report."""

import hashlib
import json
import pickle
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_veo.batch import jobs, manifest
from airflow_provider_veo.connection import VeoConnection
from airflow_provider_veo.protocol import VeoValidationError, models

IMAGE = "https://example.com/a.png"
DEFAULTS = {"model": "veo3-fast", "aspect_ratio": "16:9", "enhance_prompt": True, "enable_upsample": False}


def connection(**fields):
    return VeoConnection("veo_default", "https://relay.example.com", "sk-key", **fields)


def make(rows, *, defaults=DEFAULTS, settings=None, **arguments):
    if isinstance(rows, (list, tuple)) and not isinstance(rows, manifest.Rows):
        rows = manifest.of_jobs(rows)
    return jobs.make(rows, defaults=defaults, settings=settings or connection(), **arguments)


def of_csv(text, **arguments):
    return make(manifest.read(text.encode(), "prompts.csv"), **arguments)


def error(rows, **arguments):
    with pytest.raises(VeoValidationError) as caught:
        make(manifest.read(rows.encode(), "prompts.csv") if isinstance(rows, str) else rows, **arguments)
    return caught.value


def mistakes(rows, **arguments):
    return list(error(rows, **arguments).mistakes)


def mistake(rows, **arguments):
    (only,) = mistakes(rows, **arguments)
    return only


def body(row, **arguments):
    (job,) = make([row], **arguments)
    return job.body


def keys(rows, **arguments):
    return [job.key for job in make(rows, **arguments)]


def test_a_row_of_each_kind_becomes_a_job():
    made = of_csv(
        "key,prompt,model,images,aspect_ratio,enhance_prompt,enable_upsample,extra_body,existing_veo_task_id\n"
        f'cow,牛飞上天了,veo3.1-components,{IMAGE}|{IMAGE}2,9:16,no,TRUE,"{{""seed"": 7}}", veo3.1:17-x \n'
        ",a cow,,,,,,,\n"
    )
    assert made[0] == jobs.Job(
        key="cow",
        body={
            "prompt": "牛飞上天了",
            "model": "veo3.1-components",
            "images": [IMAGE, f"{IMAGE}2"],
            "aspect_ratio": "9:16",
            "enhance_prompt": False,
            "enable_upsample": True,
            "seed": 7,
        },
        source="prompts.csv, line 2",
        named=True,
        existing_veo_task_id="veo3.1:17-x",
    )
    assert made[1].body == {"prompt": "a cow", **DEFAULTS}
    assert not made[1].named
    assert made[1].existing_veo_task_id is None


def test_a_job_comes_back_from_json_as_it_was():
    for job in make(["a cow", {"prompt": "牛", "key": 7, "existing_veo_task_id": 5, "extra_body": {"a": {1: (2,)}}}]):
        assert jobs.Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job
        assert pickle.loads(pickle.dumps(job)) == job


@pytest.mark.parametrize("nothing", [None, "", "  ", "None", "null"])
def test_what_a_row_leaves_out_is_the_tasks(nothing):
    defaults = {
        "prompt": "a calf",
        "model": "veo3.1",
        "images": [IMAGE],
        "aspect_ratio": "9:16",
        "enhance_prompt": "no",
        "enable_upsample": "yes",
        "extra_body": '{"seed": 7}',
    }
    expected = {**defaults, "enhance_prompt": False, "enable_upsample": True, "seed": 7}
    del expected["extra_body"]
    assert body(dict.fromkeys(defaults, nothing), defaults=defaults) == expected
    assert body({}, defaults=defaults) == expected


def test_what_a_row_gives_is_its_own_even_if_it_is_false_or_no_images():
    defaults = {"model": "veo3.1", "images": [IMAGE], "enhance_prompt": True, "enable_upsample": True}
    row = {"prompt": "a cow", "images": [], "enhance_prompt": False, "enable_upsample": 0, "extra_body": {}}
    made = body(row, defaults={**defaults, "extra_body": {"seed": 7}})
    assert made == {
        "prompt": "a cow",
        "model": "veo3.1",
        "enhance_prompt": False,
        "enable_upsample": False,
        "aspect_ratio": "16:9",
    }
    assert "images" not in of_csv("prompt,images\na cow,[]\na cow,|\n", defaults=defaults)[1].body


def test_the_model_is_the_rows_or_the_tasks_or_the_connections():
    settings = connection(default_model="veo2")
    assert body({"prompt": "a", "model": "veo3"}, settings=settings)["model"] == "veo3"
    assert body("a", settings=settings)["model"] == "veo3-fast"
    assert body("a", settings=settings, defaults={"model": " "})["model"] == "veo2"
    assert "set the task's model, or default_model in the connection" in mistake(["a"], defaults={})


def test_a_model_of_the_connection_is_known():
    catalog = models.extend({"veo4": {"max_images": 1}})
    assert body({"prompt": "a", "model": "veo4"}, settings=connection(catalog=catalog))["model"] == "veo4"


def test_default_images_that_can_be_gone_through_once_are_in_every_job():
    made = make(["a", "b"], defaults={"model": "veo3.1", "images": iter([IMAGE])})
    assert [job.body["images"] for job in made] == [[IMAGE], [IMAGE]]


def test_only_the_arguments_of_the_request_have_defaults():
    (job,) = make(["a"], defaults={**DEFAULTS, "key": "x", "existing_veo_task_id": "y", "poll_interval": 15})
    assert (job.named, job.existing_veo_task_id) == (False, None)


@pytest.mark.parametrize("prompt", ["{{ ds }} cow", "{% if x %}cow{% endif %}", "cow {# brown #}"])
def test_a_prompt_that_holds_jinja_is_rendered(prompt):
    assert body(prompt, render=lambda text: f"rendered {text}")["prompt"] == f"rendered {prompt}"
    assert body(prompt)["prompt"] == prompt


@pytest.mark.parametrize("prompt", ["a cow", "{'shot': {'a': 1}}", "100 %", "牛飞上天了", 1984])
def test_other_prompts_are_not_rendered(prompt):
    assert body({"prompt": prompt}, render=lambda text: pytest.fail("rendered"))["prompt"] == str(prompt)


def test_the_tasks_own_prompt_is_not_rendered_twice():
    defaults = {**DEFAULTS, "prompt": "{{ a }}"}
    assert body({}, defaults=defaults, render=lambda text: pytest.fail("rendered"))["prompt"] == "{{ a }}"


@pytest.mark.parametrize("rendered", ["", " ", "None", None])
def test_a_prompt_that_renders_to_nothing_is_not_paid_for(rendered):
    assert mistake(["{{ x }}"], render=lambda text: rendered).startswith("jobs[0]: prompt: expected a text that says")


def test_whatever_rendering_raises_is_a_mistake_of_its_row_and_hides_no_other():
    def render(text):
        raise KeyError(f"no such\nfield {text}")

    prompt = "{{ params.x }} " * 100
    first, second = mistakes([{"prompt": prompt, "aspect_ratio": "4:3"}, "ok"], render=render)
    assert first.startswith("jobs[0]: prompt: can't be rendered: KeyError: ")
    assert len(first) < 300
    assert second == "jobs[0]: aspect_ratio: expected 16:9 or 9:16, got '4:3'"


@pytest.mark.parametrize(
    ("given_key", "key"), [("a", "a"), (" 牛 1 ", "牛 1"), (7, "7"), (7.5, "7.5"), (0, "0"), ("x" * 200, "x" * 200)]
)
def test_a_key_that_is_given(given_key, key):
    (job,) = make([{"prompt": "a", "key": given_key}])
    assert (job.key, job.named) == (key, True)


@pytest.mark.parametrize(
    "key", ["x" * 201, "a\nb", "a\0b", True, ["a"], {}, "\ud83d", pytest.param(10**5000, id="huge")]
)
def test_a_key_that_is_none(key):
    assert mistake([{"prompt": "a", "key": key}]).startswith("jobs[0]: key: ")


def test_a_key_that_looks_like_one_that_was_derived():
    assert mistake([{"prompt": "a", "key": " auto-1"}]) == (
        "jobs[0]: key: auto-… is what the keys of rows without one begin with; choose another"
    )


def test_a_key_that_several_rows_have_names_them_all():
    text = "key,prompt,aspect_ratio\na,1,\nb,2,\n a,3,\nb,4,4:3\nc,5,\na,6,\n"
    assert mistakes(text) == [
        "key: 3 rows have the key 'a', and each needs one of its own (prompts.csv, lines 2, 4 and 7)",
        "key: 2 rows have the key 'b', and each needs one of its own (prompts.csv, lines 3 and 5)",
        "prompts.csv, line 5: aspect_ratio: expected 16:9 or 9:16, got '4:3'",
    ]
    assert mistake([{"prompt": "a", "key": 7}, {"prompt": "b", "key": "7"}]).endswith("(jobs[0] and jobs[1])")


def test_a_derived_key_is_the_same_in_every_version():
    made = make(
        [
            "a cow",
            {"prompt": "牛飞上天了", "model": "veo3.1", "images": [IMAGE], "extra_body": {"seed": 7, "a": {"c": 1.5}}},
        ]
    )
    assert [job.key for job in made] == ["auto-dc13d69ec4e0ff0f", "auto-b5155a489fc9e428"]


def test_a_derived_key_is_made_of_the_body_as_it_is_documented():
    (job,) = make([{"prompt": "牛", "extra_body": {"z": [1, None], "a": "é"}}])
    text = json.dumps(job.body, sort_keys=True, ensure_ascii=True)
    assert job.key == jobs.derived_key(job.body) == f"auto-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    assert not job.named


def test_the_way_a_request_is_written_down_does_not_change_its_key():
    same = [
        "a cow",
        {"prompt": " a cow ", "model": "veo3-fast", "images": "[]", "enhance_prompt": "yes"},
        {"enable_upsample": "0", "prompt": "a cow", "aspect_ratio": "16:9", "extra_body": "{}"},
    ]
    assert len({key for row in same for key in keys([row])}) == 1
    crlf, lf = 'prompt,model\r\n"a\r\ncow",veo3\r\n', 'prompt,model\n"a\ncow",veo3\n'
    assert of_csv(crlf)[0].key == of_csv(lf)[0].key


def test_rows_that_ask_for_the_same_are_counted():
    rows = ["a", "b", "a", {"prompt": "a", "key": "named"}, "a", "b"]
    a, b = keys(["a"])[0], keys(["b"])[0]
    assert keys(rows) == [a, b, f"{a}-2", "named", f"{a}-3", f"{b}-2"]


def test_mappings_that_json_can_not_sort_have_a_key_and_become_what_is_sent():
    (job,) = make([{"prompt": "a", "extra_body": {"x": {1: "a", "b": (1, 2)}}}])
    assert job.body["x"] == {"1": "a", "b": [1, 2]}


rows_of_prompts = st.lists(st.sampled_from(["a cow", "a calf", "牛", "a bull"]), max_size=12)


@settings(max_examples=200, deadline=None)
@given(rows_of_prompts.filter(bool), rows_of_prompts, st.randoms())
def test_rows_that_are_put_anywhere_between_two_tries_leave_the_keys_of_the_others(first, more, rng):
    second = [*first]
    for prompt in more:
        second.insert(rng.randint(0, len(second)), prompt)
    before, after = keys(first), keys(second)
    assert set(before) <= set(after)
    assert len(set(after)) == len(after)


@pytest.mark.parametrize(("value", "meant"), [(" veo3:1-x\n", "veo3:1-x"), (17, "17"), ("", None), (None, None)])
def test_the_id_of_a_video_that_is_there(value, meant):
    (job,) = make([{"prompt": "a", "existing_veo_task_id": value}])
    assert job.existing_veo_task_id == meant


@pytest.mark.parametrize("value", [True, 1.5, ["x"], {}, "a\nb", pytest.param(10**5000, id="huge")])
def test_what_is_no_id_of_a_video(value):
    assert mistake([{"prompt": "a", "existing_veo_task_id": value}]).startswith("jobs[0]: existing_veo_task_id: ")


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


def test_max_cost_counts_each_model_and_no_video_that_is_there_already():
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
    assert raised.title == "The batch is not valid: 6 of 7 rows are wrong. Nothing was sent, nothing is paid."
    lines = list(raised.mistakes)
    assert lines[0].startswith("prompts.csv, header: unknown column 'modl' (did you mean model?)")
    assert lines[1] == "aspect_ratio: expected 16:9 or 9:16, got '4:3' (prompts.csv, lines 2, 6 and 8)"
    assert lines[2] == "prompts.csv, line 3: got 2 cells, and the header has 4"
    assert {line[:26] for line in lines[3:5]} == {"prompts.csv, line 5: model", "prompts.csv, line 5: aspec"}
    assert lines[5] == "prompts.csv, line 7: got 3 cells, and the header has 4"
    assert lines[6].startswith("prompts.csv, line 8: prompt: expected a text that says what the video shows")
    assert lines[7:] == [
        "max_videos: expected at most 3 jobs, got 5",
        "max_cost: expected at most 1, got 2: 1 of veo3 for 2 each",
    ]


def test_the_title_says_how_many_rows_are_wrong():
    assert "1 of 2 rows is wrong. Nothing was sent, nothing is paid." in error(["a", " "]).title
    many = error("prompt,aspect_ratio\n" + "a,4:3\n" * 1200 + "b,\n").title
    assert many == "The batch is not valid: 1,200 of 1,201 rows are wrong. Nothing was sent, nothing is paid."
    assert error("").title == "The batch is not valid. Nothing was sent, nothing is paid."
    assert error("").mistakes == ("prompts.csv: holds no jobs",)
    assert error(["a"], max_videos=0).title == "The batch is not valid. Nothing was sent, nothing is paid."


def test_a_mistake_of_very_many_rows_lists_twenty_of_them():
    found = mistake("prompt,aspect_ratio\n" + "a,4:3\n" * 1000)
    numbers = ", ".join(str(line) for line in range(2, 22))
    assert found == (f"aspect_ratio: expected 16:9 or 9:16, got '4:3' (prompts.csv, lines {numbers} and 980 more)")
    found = mistake([{"prompt": "a", "aspect_ratio": "4:3"}] * 1021)
    assert found.endswith("jobs[18], jobs[19] and 1,001 more)")


@pytest.mark.parametrize(("count", "end"), [(2, "lines 2 and 3)"), (20, "20 and 21)"), (21, "21 and 1 more)")])
def test_places_are_listed_as_people_do(count, end):
    assert mistake("prompt,aspect_ratio\n" + "a,4:3\n" * count).endswith(end)


@pytest.mark.parametrize("prompt", ["a \ud83d cow", "a \0 cow"])
def test_a_prompt_that_is_no_text_is_refused(prompt):
    line = json.dumps({"prompt": prompt, "key": "a"})
    with pytest.raises(VeoValidationError, match="prompt: it holds a NUL, or half of a character"):
        make(manifest.read(line.encode(), "p.jsonl"))


def test_no_prompt_and_no_image_is_repeated_in_full():
    text = "a cow that flies " * 20
    rows = [
        {"prompt": [text], "images": [text], "aspect_ratio": text, "enhance_prompt": text, "extra_body": text},
        {"prompt": "a", "images": text, "model": text, "key": text, "existing_veo_task_id": text + "\n" + text},
        {"prompt": f"{{{{ {text} }}}}"},
    ]
    found = mistakes(rows, render=lambda prompt: {}[prompt])
    assert len(found) >= 8
    assert all(text not in line for line in found)


def test_values_that_are_nested_without_end_are_mistakes():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for name in ("images", "extra_body", "prompt", "key"):
        assert mistakes([{"prompt": "a", name: deep}])


@settings(max_examples=200, deadline=None)
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


def test_ten_thousand_rows_are_checked_at_once():
    text = "key,prompt,images\n" + "".join(f"{n},牛 {n} flies,{IMAGE}\n" for n in range(10_000))
    started = time.perf_counter()
    made = of_csv(text, defaults={"model": "veo3.1"}, settings=connection(prices={"veo3.1": 0.1}), max_cost=1000)
    assert len({job.key for job in made}) == 10_000
    assert time.perf_counter() - started < 4


def test_ten_thousand_rows_that_are_wrong_in_every_field_are_reported_at_once():
    row = "x,[a],./a.png|./b.png,veo33,4:3,perhaps,maybe,{broken,7\n"
    header = "key,prompt,images,model,aspect_ratio,enhance_prompt,enable_upsample,extra_body,existing_veo_task_id\n"
    started = time.perf_counter()
    found = mistakes(header + row * 10_000)
    assert time.perf_counter() - started < 20
    assert len(found) == 8


def test_jobs_share_what_the_task_says_for_all_of_them():
    image = "data:image/png;base64," + "A" * 100_000
    made = make([f"{random.random()}" for _ in range(50)], defaults={"model": "veo3.1", "images": [image]})
    assert len({id(job.body["images"][0]) for job in made}) == 1
