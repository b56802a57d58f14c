"""The division of a batch: which shard takes a job, what it may spend, and what it refuses."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal

import pytest

from airflow_provider_veo.batch.shards import WHOLE, Shard, Tally, shards_in, split
from airflow_provider_veo.protocol import VeoJournalError, VeoValidationError
from tests.unit.batch.conftest import PLACES, job

PRICE = 0.4


def price(_):
    return PRICE


def shards(count):
    return [Shard(index, count) for index in range(count)]


def limits(root, max_cost, jobs, count=4, committed=0):
    whole = Tally(jobs)
    return [
        each.limit(root, max_cost, [job for job in jobs if each.takes(job)], whole, committed, price)
        for each in shards(count)
    ]


@pytest.fixture
def root(folder):
    return folder.parent


def test_each_job_is_in_one_shard_and_always_in_the_same():
    # If these change, videos of batches that are under way are billed again.
    keys = {"boat": 5, "cow": 1, "牛": 6, "k000": 7}
    assert {key: next(each.index for each in shards(8) if each.takes(job(key))) for key in keys} == keys
    for number in range(200):
        assert sum(each.takes(job(f"k{number}")) for each in shards(7)) == 1


def test_jobs_that_only_their_order_tells_apart_are_in_one_shard():
    derived = ["auto-0123456789abcdef", "auto-0123456789abcdef-2", "auto-0123456789abcdef-13"]
    for each in shards(8):
        assert len({each.takes(job(key, named=False)) for key in derived}) == 1


@pytest.mark.parametrize(("total", "count"), [(8, 8), (10, 4), (7, 7), (800, 3)])
def test_parts_of_a_number_add_up_to_it(total, count):
    parts = [each.part_of(total) for each in shards(count)]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1
    assert WHOLE.part_of(total) == total


def test_a_tally_is_restored_with_what_prices_depend_on():
    seconds = [{"seconds": each} for each in (8, [8], {"a": 1})]
    jobs = [job("a"), job("b", model="veo3"), job("c", existing="veo3:1"), job("d")]
    jobs += [job(f"e{number}", extra_body=extra) for number, extra in enumerate(seconds)]
    restored = Tally.of(json.loads(json.dumps(Tally(jobs).to_list()))).jobs
    before, after = (
        sorted(repr((each.body["model"], each.body.get("seconds"), bool(each.existing_veo_task_id))) for each in some)
        for some in (jobs, restored)
    )
    assert before == after


@pytest.mark.parametrize("place", PLACES)
def test_limits_add_up_to_the_maximum_in_whatever_order_shards_begin(root):
    jobs = [job(f"k{number}") for number in range(50)]
    for _ in range(2):  # and when they are tried again
        found = limits(root, 21.1, jobs)
        assert Decimal("21.1") - Decimal("1e-8") < sum(found) <= Decimal("21.1")
        for each, limit in zip(shards(4), found, strict=True):
            assert limit >= Decimal(str(PRICE)) * sum(map(each.takes, jobs))


def test_limits_of_shards_with_different_jobs_stay_within_the_maximum(root):
    inputs = [[job(f"{name}{number}") for number in range(20)] for name in "abcd"]
    for order in itertools.islice(itertools.permutations(range(4)), 8):
        found = {}
        for index in order:
            each = Shard(index, 4)
            mine = [job for job in inputs[index] if each.takes(job)]
            found[index] = each.limit(root, 8, mine, Tally(inputs[index]), 0, price)
        assert sum(found.values()) <= 8


def test_what_a_shard_has_spent_is_not_available_to_another(root):
    jobs = [job(f"k{number}") for number in range(20)]
    Shard(0, 2).limit(root, 8, [], Tally(jobs), 6.5, price)
    assert Shard(1, 2).limit(root, 8, jobs, Tally(jobs), 0, price) == Decimal("1.5")


@pytest.mark.parametrize("place", PLACES)
def test_another_number_of_shards_is_refused(root):
    for each in *shards(4), WHOLE:
        each.refuse_another_division(root)  # nothing is there
    limits(root, 10, [job("a")])
    assert shards_in(root) == [(index, 4) for index in range(4)]
    Shard(3, 4).refuse_another_division(root)
    for other in WHOLE, Shard(0, 3):
        with pytest.raises(VeoValidationError, match="began with shards=4"):
            other.refuse_another_division(root)


@pytest.mark.parametrize("place", ["memory"])
def test_folder_that_can_not_be_listed_is_not_treated_as_empty(root, storage):
    storage.fails = {"list"}
    for each in WHOLE, Shard(0, 4):
        with pytest.raises(VeoJournalError, match="Could not list") as caught:
            each.refuse_another_division(root)
        assert not caught.value.final


@pytest.mark.parametrize(
    ("folder_uri", "expected"),
    [
        ("s3://c@b/night/_shards/3-of-8", ("s3://c@b/night", Shard(3, 8))),
        ("s3://b/night", None),
        ("s3://b/_shards/x-of-8", None),
        ("/_shards/3-of-8", None),
        ("s3://b/_shards/3-of-8/more", None),
    ],
)
def test_the_folder_of_a_shard_is_recognized(folder_uri, expected):
    assert split(folder_uri) == expected
