"""What a trigger is given to watch: as much as Airflow can keep in any database, and the rest in turn."""

from __future__ import annotations

import contextlib
import json

import pytest
from airflow.serialization.serialized_objects import BaseSerialization
from cryptography.fernet import Fernet

from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.triggers import VeoVideoBatchTrigger
from tests.unit.batch.conftest import creates, jobs

MYSQL_TEXT = 2**16 - 1
"""Bytes of the column that a trigger's arguments are in, and the shortest of all databases'."""


def bytes_in_the_database(run):
    told = {"progress": run.progress.to_dict(), "told_at": run.reported_at, "held_until": 1795349140.123456}
    _, arguments = VeoVideoBatchTrigger(videos=run.watched, **told).serialize()
    return len(Fernet(Fernet.generate_key()).encrypt(json.dumps(BaseSerialization.serialize(arguments)).encode()))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["memory"])
def test_what_is_watched_fits_and_the_rest_has_its_turn(relay, a_try):
    many = jobs(1100)
    relay.configure(generation_seconds=600)
    done = a_try(many, deferrable=True, max_in_flight=2000)
    assert creates(relay) == 1100
    watched = done.run.watched
    submitted = sorted(record.submitted for record in done.run.engine.records.values())
    assert sorted(watched.values()) == submitted[: len(watched)]
    assert 500 < len(watched) < 1000
    assert MYSQL_TEXT * 0.7 < bytes_in_the_database(done.run) <= MYSQL_TEXT

    relay.configure(generation_seconds=0)
    with contextlib.closing(VeoHook()) as hook:
        while done.run.watched:
            outcomes = {id: {"video": hook.get_video(id).to_dict()} for id in done.run.watched}
            done = a_try(many, outcomes=outcomes, deferrable=True, max_in_flight=2000)
    assert done.counts == {"succeeded": 1100}
    assert creates(relay) == 1100
