"""What the batch trigger reports while it runs, and what is left when it is restarted or ended."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from airflow_provider_veo import triggers
from airflow_provider_veo.batch.progress import Progress
from airflow_provider_veo.triggers import VeoVideoBatchTrigger
from tests.unit.test_batch_trigger import (
    FOR_EVER,
    accepted,
    collect,
    cows,
    events,
    fired,
    made,
    nothing_is_left,
    requests,
)


def test_progress_is_logged(relay, monkeypatch, logged):
    monkeypatch.setattr(triggers, "SECONDS_BETWEEN", 0.3)
    relay.set_faults(FOR_EVER, "failed=blocked@prompt=bad")
    videos = {**accepted(*cows(2)), **accepted("bad cow"), **accepted("slow cow")}
    progress = Progress(total=20, done=5, failed=1, generating=4, to_submit=10).to_dict()
    started = time.time()
    event = fired(videos, progress=progress, wake_at=time.time() + 3)
    lines = [line for line in logged().splitlines() if "/20 done" in line]
    assert 3 <= len(lines) <= 12
    assert "5/20 done, 1 failed, 4 generating, 10 to submit" in lines[0]
    assert "7/20 done, 2 failed, 1 generating, 10 to submit" in lines[-1]
    assert event["told_at"] > started


def test_recent_progress_is_not_logged_again(relay, logged):
    told_at = time.time()
    event = fired(accepted("cow"), progress=Progress(1, 0, 0, 1, 0).to_dict(), told_at=told_at)
    assert event["told_at"] == told_at
    assert "/1 done" not in logged()


@pytest.fixture
def pushed(monkeypatch):
    """The values pushed to XCom, and a way to make pushing fail."""
    pushed = SimpleNamespace(begun=0, values=[], error=None)

    async def aset(**arguments):
        if pushed.error:
            raise pushed.error
        pushed.begun += 1
        await asyncio.sleep(0.1)
        pushed.values.append(arguments)

    monkeypatch.setattr(triggers.XCom, "aset", aset, raising=False)
    monkeypatch.setattr(triggers, "SECONDS_BETWEEN", 0.2)
    return pushed


def telling(videos, **arguments):
    trigger = made(videos, progress=Progress(3, 0, 0, 1, 2).to_dict(), **arguments)
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=None)
    return trigger


def test_progress_is_pushed_to_xcom(relay, pushed):
    relay.set_faults(FOR_EVER)
    asyncio.run(collect(telling(accepted("slow cow"), wake_at=time.time() + 3)))
    assert len(pushed.values) >= 2
    assert {key: pushed.values[0][key] for key in ("key", "dag_id", "task_id", "run_id", "map_index")} == {
        "key": "progress",
        "dag_id": "d",
        "task_id": "t",
        "run_id": "r",
        "map_index": -1,
    }
    assert pushed.values[0]["value"]["total"] == 3


def test_a_push_that_fails_ends_nothing(relay, pushed):
    pushed.error = RuntimeError("the supervisor is busy")
    relay.set_faults("query:status-word=processing@1-5")
    (event,) = asyncio.run(events(telling(accepted("cow"))))
    assert len(event["outcomes"]) == 1


def test_started_push_is_not_cancelled(relay, pushed):
    async def scenario():
        run = asyncio.ensure_future(collect(telling(accepted("slow cow"))))
        while not pushed.begun:
            await asyncio.sleep(0.005)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await asyncio.sleep(0.3)
        nothing_is_left()

    relay.set_faults(FOR_EVER)
    asyncio.run(scenario())
    assert len(pushed.values) == 1


# --- being restarted -------------------------------------------------------------------------------------------------


def test_running_twice_is_harmless(relay):
    videos = accepted(*cows(6))

    async def scenario():
        found = await asyncio.gather(collect(made(videos)), collect(made(videos)))
        nothing_is_left()
        return found

    (first,), (second,) = asyncio.run(scenario())
    assert first["outcomes"] == second["outcomes"]
    assert first["outcomes"].keys() == videos.keys()
    assert requests(relay) == {"create": 6, "query": 12}


@pytest.mark.parametrize("fault", [FOR_EVER, "query:hang-before=9", "query:rate-limit=60"])
def test_being_cancelled_leaves_nothing_behind(relay, fault):
    videos = accepted(*(f"slow {number}" for number in range(30)))
    relay.set_faults(fault)

    async def scenario():
        run = asyncio.ensure_future(collect(made(videos, progress=Progress(30, 0, 0, 30, 0).to_dict())))
        await asyncio.sleep(0.6)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        nothing_is_left()

    asyncio.run(scenario())
    assert requests(relay)["create"] == 30


def test_ended_trigger_keeps_sockets_of_others_open(relay):
    relay.set_faults("query:slow=0.4@prompt=late")
    quick, late = accepted(*cows(3)), accepted("late cow")

    async def scenario():
        return await asyncio.gather(collect(made(quick)), collect(made(late)))

    _, (event,) = asyncio.run(scenario())
    assert [outcome["video"]["state"] for outcome in event["outcomes"].values()] == ["succeeded"]


def test_internal_errors_are_not_hidden(relay):
    async def scenario():
        with pytest.raises(TypeError):
            await collect(made({**accepted("cow"), "veo3:1-x": "yesterday"}))
        nothing_is_left()

    asyncio.run(scenario())


def test_on_kill_logs_what_will_be_billed(logged):
    asyncio.run(VeoVideoBatchTrigger({"veo3:1-x": 0.0, "veo3:1-y": 0.0}).on_kill())
    assert "2 videos are still being generated and will be billed" in logged()
