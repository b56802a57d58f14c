"""``[veo] journal_path`` is set or removed between two tries: earlier submissions are still known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_veo.journal import Submission, open_journal
from airflow_provider_veo.protocol import VeoJournalError
from tests.unit.journal.conftest import TASK_INSTANCE


class Accessor:
    """A task state store as in the context of a task: values of this task instance."""

    def __init__(self):
        self.values = {}
        self.fails = False

    def get(self, key):
        if self.fails:
            raise OSError("the API server is down")
        return self.values.get(key)

    def set(self, key, value, **options):
        self.values[key] = value

    def delete(self, key):
        self.values.pop(key, None)


@pytest.fixture
def accessor(monkeypatch):
    # If Airflow has no task state store, its constant is missing, too.
    import airflow.sdk.execution_time.context as context

    monkeypatch.setattr(context, "NEVER_EXPIRE", None, raising=False)
    return Accessor()


@pytest.fixture
def opened(accessor, root, monkeypatch):
    def journal(path):
        monkeypatch.setenv("AIRFLOW__VEO__JOURNAL_PATH", root if path else "")
        ti = SimpleNamespace(**TASK_INSTANCE, try_number=1)
        return open_journal({"ti": ti, "task_state_store": accessor}, durable=True)

    return journal


def submitted(journal, veo_task_id):
    wanted = Submission.of({"prompt": "a cow"}, account="veo_default")
    return journal.accept(journal.intend(wanted, journal.read()), veo_task_id)


@pytest.mark.parametrize("path", [True, False])
def test_acceptance_is_found_in_the_other_store(opened, path):
    before = submitted(opened(path), "veo3:1")
    journal = opened(not path)
    assert journal.read() == before
    assert ("Task State Store" in journal.where) is not path
    again = submitted(journal, "veo3:2")
    for each in path, not path:
        assert opened(each).read() == again


@pytest.mark.parametrize("path", [True, False])
def test_intent_is_found_in_the_other_store(opened, path):
    journal = opened(path)
    intent = journal.intend(Submission.of({"prompt": "a cow"}, account="veo_default"), None)
    assert opened(not path).read() == intent
    journal.forget(intent)
    assert opened(not path).read() is None


def test_unreadable_other_store_is_not_treated_as_empty(opened, accessor):
    submitted(opened(False), "veo3:1")
    accessor.fails = True
    with pytest.raises(VeoJournalError, match="API server is down"):
        opened(True).read()
