"""At most one process sends, whatever the order of reads and writes, and store failures lose no record."""

from __future__ import annotations

import itertools
import random
import threading

import pytest

from airflow_provider_veo.journal import Submission, TaskJournal, open_journal
from airflow_provider_veo.journal.stores import ThisTry
from airflow_provider_veo.protocol import VeoJournalError, VeoJournalRecordError

STEPS = 5
"""Store operations in one ``intend``."""


def submission(number=0):
    return Submission.of({"prompt": "a cow"}, account="veo_default", try_number=number)


class TakingTurns:
    """
    A store whose users, each in its own thread, take one step at a time, in a given order.

    :param order: the number of a thread for each step. Later steps come in any order.
    """

    survives = True

    def __init__(self, values, order):
        self._values = values
        self._order = list(order)
        self._changed = threading.Condition()

    def of(self, number):
        view = TakingTurns.__new__(TakingTurns)
        view.__dict__ = self.__dict__ | {"number": number, "_shared": self}
        return view

    def leave(self, number):
        """The thread takes no further steps."""
        with self._changed:
            self._order[:] = [other for other in self._order if other != number]
            self._changed.notify_all()

    def _step(self, act):
        with self._changed:
            assert self._changed.wait_for(lambda: not self._order or self._order[0] == self.number, timeout=30)
            if self._order:
                self._order.pop(0)
            self._changed.notify_all()
            return act()

    def get(self, name):
        return self._step(lambda: self._values.get(name))

    def set(self, name, value):
        self._step(lambda: self._values.update({name: value}))

    def delete(self, name):
        self._step(lambda: self._values.pop(name, None))

    def where(self, name):
        return name


def race(order, recorded=None):
    """Let the processes of an order intend at once, and return those that got through, and the store's values."""
    values = (
        {} if recorded is None else {f"veo_submission{'' if recorded.veo_task_id else '_intent'}": recorded.to_dict()}
    )
    store = TakingTurns(values, order)
    through = []

    def intend(number):
        try:
            TaskJournal(store.of(number)).intend(submission(number), instead_of=recorded)
            through.append(number)
        except VeoJournalError:
            pass
        finally:
            store.leave(number)

    threads = [threading.Thread(target=intend, args=(number,)) for number in sorted(set(order))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return through, values


def orders_of_two():
    for chosen in itertools.combinations(range(2 * STEPS - 1), STEPS - 1):
        yield [0, *(0 if step in chosen else 1 for step in range(2 * STEPS - 1))]


@pytest.mark.parametrize(
    "recorded", [None, submission(), submission().accepted("veo3:1")], ids=lambda it: it and it.state
)
def test_at_most_one_of_two_processes_sends_in_any_order(recorded):
    winners = [len(race(order, recorded)[0]) for order in orders_of_two()]
    assert max(winners) == 1
    assert winners.count(1) > len(winners) / 4


def test_of_three_processes_at_most_one_sends():
    draw = random.Random(20261122)
    steps = [number for number in range(3) for _ in range(STEPS)]
    assert max(len(race(draw.sample(steps, len(steps)))[0]) for _ in range(400)) == 1


def submit_until_accepted(journal, number, relay, draw):
    """What a process's tries do: submit until the relay accepts, and stop if there is a record."""
    for _ in range(3):
        if (recorded := journal.read()) is not None:
            return
        intent = journal.intend(submission(number), instead_of=recorded)
        relay["in flight"] += 1
        relay["most in flight"] = max(relay["most in flight"], relay["in flight"])
        accepted = draw.random() < 0.5
        journal.read()  # a step: the others continue while the request is in flight
        relay["in flight"] -= 1
        if accepted:
            relay["accepted"] += 1
            journal.accept(intent, f"veo3:{number}")
            return
        journal.forget(intent)


@pytest.mark.parametrize("seed", range(150))
def test_at_most_one_request_in_flight_and_one_accepted(seed):
    draw = random.Random(seed)
    order = [draw.randrange(3) for _ in range(60)]
    store = TakingTurns({}, order)
    relay = {"in flight": 0, "most in flight": 0, "accepted": 0}

    def run(number):
        try:
            submit_until_accepted(TaskJournal(store.of(number)), number, relay, random.Random(seed + number))
        except VeoJournalError:
            pass
        finally:
            store.leave(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert relay["most in flight"] <= 1
    assert relay["accepted"] <= 1
    # Even with a late process, an accepted video is on record.
    store = TakingTurns(store._values, [])
    on_record = TaskJournal(store.of(0)).read()
    assert relay["accepted"] == (on_record is not None and on_record.state == "accepted")


@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_process_that_died_while_intending_leaves_one_sender(steps):
    """The first takes some steps, and then none until the second has finished."""
    through, values = race([0] * steps + [1] * STEPS)
    assert len(through) <= 1
    assert values["veo_submission_intent"]["state"] == "intended"


def test_a_single_process_always_gets_through():
    for recorded in None, submission(), submission().accepted("veo3:1"):
        assert race([0] * STEPS, recorded)[0] == [0]


class Broken(ThisTry):
    """A store that fails on demand: it raises, or drops a write and reports success."""

    survives = True

    def __init__(self, fails=(), loses=()):
        super().__init__()
        self.fails, self.loses = fails, loses

    def get(self, name):
        self._fail("get", name)
        return super().get(name)

    def set(self, name, value):
        self._fail("set", name)
        if ("set", name) not in self.loses:
            super().set(name, value)

    def delete(self, name):
        self._fail("delete", name)
        super().delete(name)

    def _fail(self, *what):
        if what in self.fails:
            raise ConnectionError("the store is down")


@pytest.mark.parametrize("name", ["veo_submission_intent", "veo_submission_claim"])
@pytest.mark.parametrize("what", ["get", "set"])
def test_nothing_is_sent_when_the_store_is_down(what, name):
    with pytest.raises(VeoJournalError, match="the store is down") as caught:
        TaskJournal(Broken(fails=[(what, name)])).intend(submission(), instead_of=None)
    assert not caught.value.final


def test_nothing_is_sent_when_the_accepted_videos_can_not_be_read():
    with pytest.raises(VeoJournalError, match="the store is down"):
        TaskJournal(Broken(fails=[("get", "veo_submission")])).intend(submission(), instead_of=None)


def test_late_process_does_not_overwrite_an_id():
    """It was frozen just before it wrote its intent, until another process had submitted."""
    through, values = race([0] * 3 + [1] * STEPS + [0] * 2)
    assert through == [1]
    journal = TaskJournal(TakingTurns(values, []).of(0))
    accepted = journal.accept(submission(1), "veo3:1")
    values["veo_submission_intent"] = submission(0).to_dict()
    assert journal.read() == accepted


def test_an_intent_of_another_process_is_not_removed():
    journal = TaskJournal(Broken())
    journal.intend(submission(1), instead_of=None)
    journal.forget(submission(2))
    assert journal.read().try_number == 1


def test_an_id_stays_on_record_when_another_submission_is_refused():
    journal = TaskJournal(Broken())
    accepted = journal.accept(journal.intend(submission(1), instead_of=None), "veo3:1")
    intent = journal.intend(submission(2), instead_of=accepted)
    assert journal.read() == intent
    journal.forget(intent)
    assert journal.read() == accepted


def test_nothing_is_sent_when_the_store_drops_writes():
    with pytest.raises(VeoJournalError):
        TaskJournal(Broken(loses=[("set", "veo_submission_claim")])).intend(submission(), instead_of=None)


def test_an_id_that_can_not_be_recorded_is_in_the_error(monkeypatch):
    monkeypatch.setattr("airflow_provider_veo.journal.task_journal._MAX_ATTEMPTS", 2)
    with pytest.raises(VeoJournalRecordError) as caught:
        TaskJournal(Broken(fails=[("set", "veo_submission")])).accept(submission(), "veo3:1")
    assert "existing_veo_task_id='veo3:1'" in str(caught.value)
    assert caught.value.veo_task_id == "veo3:1"
    assert caught.value.final


def test_an_id_is_recorded_when_the_store_is_down_for_a_moment():
    store = Broken(fails=[("set", "veo_submission")])
    threading.Timer(0.5, lambda: setattr(store, "fails", ())).start()
    TaskJournal(store).accept(submission(), "veo3:1")
    assert TaskJournal(store).read().veo_task_id == "veo3:1"


def test_adopted_video_replaces_the_intent():
    store = Broken()
    journal = TaskJournal(store)
    journal.intend(submission(1), instead_of=None)
    journal.adopt(submission(2), "veo3:1")
    store.delete("veo_submission")
    assert journal.read() is None


def test_adopting_again_keeps_the_submission_time():
    journal = TaskJournal(Broken())
    first = journal.adopt(submission(1), "veo3:1")
    assert journal.adopt(submission(2), "veo3:1") == first
    assert journal.adopt(submission(2), "veo3:2") != first
    assert journal.read().veo_task_id == "veo3:2"


def test_adopt_replaces_an_invalid_record():
    store = Broken()
    store.set("veo_submission", {"format": 99})
    TaskJournal(store).adopt(submission(), "veo3:1")
    assert TaskJournal(store).read().veo_task_id == "veo3:1"


def test_without_any_store_a_submission_is_remembered_for_its_try(monkeypatch):
    monkeypatch.delenv("AIRFLOW__VEO__JOURNAL_PATH", raising=False)
    for context, durable in ({"task_state_store": object()}, False), ({}, True):
        journal = open_journal(context, durable=durable)
        assert not journal.survives
        journal.intend(submission(), instead_of=None)
        assert journal.read().state == "intended"
        assert open_journal(context, durable=durable).read() is None
