"""From rows to jobs: what a row, the task and the connection give, and what may be in it."""

import json
import pickle
import random

import pytest

from airflow_provider_veo.batch import jobs, manifest
from airflow_provider_veo.batch.rendering import PromptRenderer
from airflow_provider_veo.connection import VeoConnection
from airflow_provider_veo.protocol import VeoValidationError, models
from airflow_provider_veo.protocol.prices import read

IMAGE = "https://example.com/a.png"

DEFAULTS = {"model": "veo3-fast", "aspect_ratio": "16:9", "enhance_prompt": True, "enable_upsample": False}


def connection(prices=None, **fields):
    return VeoConnection("veo_default", "https://relay.example.com", "sk-key", prices=read(prices or {}), **fields)


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
    catalog = models.CATALOG.extended({"veo4": {"max_images": 1}})
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
    assert mistake(["{{ x }}"], render=lambda text: rendered).startswith("jobs[0]: prompt: expected a non-empty string")


def test_a_template_that_can_not_be_rendered_is_a_mistake_of_its_row_and_hides_no_other():
    render = PromptRenderer({})
    first, second = mistakes([{"prompt": "{{ conn.x }} " * 100, "aspect_ratio": "4:3"}, "ok"], render=render)
    assert first.startswith("jobs[0]: prompt: the template uses 'conn', which is not available (line 1 of the prompt)")
    assert len(first) < 500
    assert second == "jobs[0]: aspect_ratio: expected 16:9 or 9:16, got '4:3'"


@pytest.mark.parametrize(("value", "meant"), [(" veo3:1-x\n", "veo3:1-x"), (17, "17"), ("", None), (None, None)])
def test_the_id_of_a_video_that_is_there(value, meant):
    (job,) = make([{"prompt": "a", "existing_veo_task_id": value}])
    assert job.existing_veo_task_id == meant


def test_a_video_that_several_rows_go_on_with_names_them_all():
    text = "prompt,existing_veo_task_id\na,veo3:1\nb,\nc, veo3:1\nd,veo3:2\ne,None\n"
    assert mistakes(text) == [
        "existing_veo_task_id: 2 rows have the existing_veo_task_id 'veo3:1', which must be unique "
        "(prompts.csv, lines 2 and 4)"
    ]
    rows = [{"prompt": "a", "existing_veo_task_id": value} for value in ("7", 7)]
    assert mistake(rows).endswith("(jobs[0] and jobs[1])")


@pytest.mark.parametrize("value", [True, 1.5, ["x"], {}, "a\nb", pytest.param(10**5000, id="huge")])
def test_what_is_no_id_of_a_video(value):
    assert mistake([{"prompt": "a", "existing_veo_task_id": value}]).startswith("jobs[0]: existing_veo_task_id: ")


@pytest.mark.parametrize("prompt", ["a \ud83d cow", "a \0 cow"])
def test_a_prompt_that_is_no_text_is_refused(prompt):
    line = json.dumps({"prompt": prompt, "key": "a"})
    with pytest.raises(VeoValidationError, match="prompt: expected text without NUL characters and lone surrogates"):
        make(manifest.read(line.encode(), "p.jsonl"))


def test_jobs_share_what_the_task_says_for_all_of_them():
    image = "data:image/png;base64," + "A" * 100_000
    made = make([f"{random.random()}" for _ in range(50)], defaults={"model": "veo3.1", "images": [image]})
    assert len({id(job.body["images"][0]) for job in made}) == 1
