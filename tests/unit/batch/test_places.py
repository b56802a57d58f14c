"""A job of a batch is in exactly one place, whatever happens."""

from __future__ import annotations

import random

import pytest

from airflow_provider_veo.batch.places import MOVES, Place, Places
from tests.unit.batch.conftest import jobs

GO = {
    Place.QUEUED: Places.queued,
    Place.PREPARING: Places.prepares,
    Place.IN_FLIGHT: Places.flies,
    Place.REWORDING: Places.rewords,
    Place.STORING: Places.stores,
    Place.SETTLED: Places.settled,
}


def moved(places, job, to):
    if places[job.key] is Place.QUEUED:
        places.queue.remove(job)
    GO[to](places, job)


def check(places, batch):
    """Assert that queue and slots agree with the places of all jobs."""
    found = {job.key: places[job.key] for job in batch}
    assert sorted(job.key for job in places.queue) == sorted(key for key in found if found[key] is Place.QUEUED)
    assert places.preparing.keys() == {key for key in found if found[key] is Place.PREPARING}
    assert places.rewording == {key for key in found if found[key] is Place.REWORDING}
    assert places.to_submit == {job.key for job in places.queue} | places.preparing.keys() | places.rewording
    assert places.in_flight.keys() == {key for key in found if found[key] is Place.IN_FLIGHT}


@pytest.mark.parametrize("seed", range(20))
def test_queue_and_slots_agree_after_each_allowed_move(seed):
    chance, places, batch = random.Random(seed), Places(), jobs(12)
    for _ in range(200):
        job = chance.choice(batch)
        if allowed := sorted(MOVES[places[job.key]], key=lambda place: place.value):
            moved(places, job, chance.choice(allowed))
        check(places, batch)


@pytest.mark.parametrize(("come_from", "to"), [(a, b) for a in Place for b in Place if b not in MOVES[a]])
def test_any_other_move_is_refused(come_from, to):
    places, (job,) = Places(), jobs(1)
    GO[come_from](places, job)
    with pytest.raises(AssertionError, match="can't go from"):
        GO[to](places, job)
    assert places[job.key] is come_from


def test_a_job_that_was_not_accepted_for_now_is_the_next_one_again():
    places, (first, second) = Places(), jobs(2)
    places.queued(first)
    places.queued(second)
    (taken,) = places.next(1)
    places.flies(taken)
    places.queued(taken, first=True)
    assert list(places.queue) == [first, second]
    assert places.next(9) == [first, second]
