"""Keys: given ones, and those that later tries find again."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_veo.batch import jobs
from tests.unit.batch.test_jobs import IMAGE, keys, make, mistake, mistakes, of_csv


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
        "jobs[0]: key: the prefix 'auto-' is reserved for derived keys; choose another key"
    )


def test_a_key_that_several_rows_have_names_them_all():
    text = "key,prompt,aspect_ratio\na,1,\nb,2,\n a,3,\nb,4,4:3\nc,5,\na,6,\n"
    assert mistakes(text) == [
        "key: 3 rows have the key 'a', which must be unique (prompts.csv, lines 2, 4 and 7)",
        "key: 2 rows have the key 'b', which must be unique (prompts.csv, lines 3 and 5)",
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


def test_rows_with_the_same_request_are_counted():
    rows = ["a", "b", "a", {"prompt": "a", "key": "named"}, "a", "b"]
    a, b = keys(["a"])[0], keys(["b"])[0]
    assert keys(rows) == [a, b, f"{a}-2", "named", f"{a}-3", f"{b}-2"]


def test_mappings_that_json_can_not_sort_have_a_key_and_become_what_is_sent():
    (job,) = make([{"prompt": "a", "extra_body": {"x": {1: "a", "b": (1, 2)}}}])
    assert job.body["x"] == {"1": "a", "b": [1, 2]}


rows_of_prompts = st.lists(st.sampled_from(["a cow", "a calf", "牛", "a bull"]), max_size=12)


@settings(max_examples=200)
@given(rows_of_prompts.filter(bool), rows_of_prompts, st.randoms())
def test_rows_that_are_put_anywhere_between_two_tries_leave_the_keys_of_the_others(first, more, rng):
    second = [*first]
    for prompt in more:
        second.insert(rng.randint(0, len(second)), prompt)
    before, after = keys(first), keys(second)
    assert set(before) <= set(after)
    assert len(set(after)) == len(after)


def test_two_spellings_of_a_key_are_one_key():
    given = [{"prompt": "a", "key": "caf\u00e9"}, {"prompt": "b", "key": "cafe\u0301"}]
    assert mistake(given).startswith("key: 2 rows have the key")
