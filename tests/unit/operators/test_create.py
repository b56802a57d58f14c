"""Mistakes that no template can fix fail while the DAG file is parsed, and name the task."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_veo.operators import VeoCreateVideoOperator
from airflow_provider_veo.protocol import VeoValidationError

RIGHT = {"task_id": "make_video", "prompt": "a cow"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"prompt": " "}, "prompt: expected a non-empty string"),
        ({"images": "./cow.png"}, "images[0]: expected an http(s) URL"),
        ({"images": ["https://example.com/a", "https://example.com/a"]}, "images: must be unique"),
        ({"images": 7}, "images: expected a list of images"),
        ({"aspect_ratio": "4:3"}, "aspect_ratio: expected 16:9 or 9:16, got '4:3'"),
        ({"enhance_prompt": "perhaps"}, "enhance_prompt: expected true or false"),
        ({"enable_upsample": None}, "enable_upsample: expected true or false"),
        ({"extra_body": ["seed"]}, "extra_body: expected an object"),
        ({"on_ambiguous_submit": "retry"}, "on_ambiguous_submit: expected 'fail' or 'resubmit', got 'retry'"),
        ({"poll_interval": 0}, "poll_interval: expected a number above 0, got 0"),
        ({"download_to": "file:///tmp/"}, "download_to: the file can be stored only after waiting"),
        ({"timeout": "1h"}, "timeout: expected a number above 0, got '1h'"),
    ],
)
def test_a_mistake_in_a_dag_file_fails_while_it_is_parsed(arguments, part):
    with pytest.raises(VeoValidationError) as caught:
        VeoCreateVideoOperator(**{**RIGHT, **arguments})
    assert "The arguments of task 'make_video' are not valid." in str(caught.value)
    (mistake,) = caught.value.mistakes
    assert part in mistake


def test_all_mistakes_of_a_task_are_reported_together():
    with pytest.raises(VeoValidationError) as caught:
        VeoCreateVideoOperator(**{**RIGHT, "prompt": "", "aspect_ratio": "1:1", "timeout": 0})
    assert len(caught.value.mistakes) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": "{{ params.prompt }}", "aspect_ratio": "{{ '9:16' }}", "enhance_prompt": "{% if x %}1{% endif %}"},
        {"prompt": "a_file.prompt"},
        {"images": ["{{ ti.xcom_pull('a') }}"]},
        {"images": "{{ ti.xcom_pull('a') }}"},
        {"extra_body": {"seed": "{{ 7 }}"}},
        {"model": "a-model-of-the-connection", "aspect_ratio": "9:16"},
        {"images": None},
        {"images": []},
    ],
)
def test_templated_values_are_not_validated_at_parse_time(arguments):
    VeoCreateVideoOperator(**{**RIGHT, **arguments})


def test_xcomargs_are_not_validated_at_parse_time():
    with DAG("veo", schedule=None):
        upstream = VeoCreateVideoOperator(task_id="upstream", prompt="a cow")
        fields = dict.fromkeys(VeoCreateVideoOperator.template_fields, upstream.output)
        downstream = VeoCreateVideoOperator(task_id="downstream", wait_for_completion=True, **fields)
        assert downstream.upstream_task_ids == {"upstream"}


def test_template_fields():
    assert set(VeoCreateVideoOperator.template_fields) == {
        "prompt",
        "model",
        "images",
        "aspect_ratio",
        "enhance_prompt",
        "enable_upsample",
        "extra_body",
        "veo_conn_id",
        "existing_veo_task_id",
        "download_to",
    }
