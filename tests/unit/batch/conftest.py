"""What the tests of a batch's work share: storages, real ones and one that fails, and tries of one task instance."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.batch.budget import Budget
from airflow_provider_veo.batch.checkpoint import BatchCheckpoint
from airflow_provider_veo.batch.jobs import Job
from airflow_provider_veo.batch.options import Options
from airflow_provider_veo.batch.results import Results
from airflow_provider_veo.batch.run import Run
from airflow_provider_veo.connection import Account
from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.journal.submission import Submission
from airflow_provider_veo.metrics import TaskMetrics
from airflow_provider_veo.operators.rewording import other_prompt
from airflow_provider_veo.protocol import VideoTask, payload
from airflow_provider_veo.protocol.prices import exact
from airflow_provider_veo.storage import store_video
from tests.unit.conftest import LOG, OWNER, PLACES  # noqa: F401  also for the tests

ACCOUNT = Account("veo_default", "https://relay.example.com")


def job(key="cow", prompt=None, named=True, existing=None, model="veo3-fast", **fields):
    body = payload.build(prompt or f"prompt of {key}", model, **fields)
    return Job(key, body, f"jobs[{key}]", named, existing)


def jobs(count):
    return [job(f"k{index:03}") for index in range(count)]


def video(veo_task_id="veo3:1", state="succeeded", **fields):
    return VideoTask(id=veo_task_id, state=state, status=state, **fields)


def wanted(job, account=ACCOUNT):
    return job.wanted(account)


def intended(key="cow", before=None, account=ACCOUNT, price=None, **fields):
    return Submission.intend(wanted(job(key, **fields), account), before, None if price is None else exact(price))


def accepted(key="cow", veo_task_id="veo3:1", price=0.4, **fields):
    return intended(key, price=price, **fields).accepted_video(video(veo_task_id, "running"))


def at_once(count, act):
    """Do something in ``count`` threads, and return what each returned or raised."""
    start, outcomes = threading.Barrier(count), [None] * count

    def run(index):
        start.wait()
        try:
            outcomes[index] = act(index)
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


@dataclasses.dataclass
class Tried:
    """The outcome of a try of the task."""

    run: Run
    results: Results | None
    error: BaseException | None

    @property
    def states(self):
        return {row["key"]: row["state"] for row in self.results.rows()}

    @property
    def counts(self):
        return {state: count for state, count in self.results.counts.items() if count}

    @property
    def errors(self):
        return {row["key"]: row["error"] for row in self.results.rows() if row["error"]}


@pytest.fixture
def a_try(relay, impatient, journal_of_batch, tmp_path):
    """
    Run a batch, as another process and another try of one task instance would: ``a_try(jobs, max_in_flight=3)``.

    :param outcomes: what a trigger has seen: the process continues the try before.
    :param begun: called with the run before it starts.
    :param on_blocked: the operator's.
    """
    hooks, numbers = [], [0]

    def store(hook, each, record):
        destination = ObjectStoragePath(f"file://{tmp_path}/videos/{each.key}.mp4")
        return store_video(
            record.video["video_url"], destination, settings=hook.settings, log=LOG, timeout=60
        ).to_dict()

    def reword(hook, on_blocked, each, record):
        settings = hook.settings
        body = record.body_for(each.wanted(settings.billed))
        return other_prompt(on_blocked, body, record, settings.catalog, LOG)

    def go(
        batch,
        outcomes=None,
        begun=lambda run: None,
        publish=lambda progress: None,
        checkpoint=None,
        on_blocked=None,
        **options,
    ):
        numbers[0] += outcomes is None
        checkpoint = checkpoint or BatchCheckpoint(try_id=str(numbers[0]))
        given = {"poll_interval": 0.04, "download": False, "try_id": checkpoint.try_id, **options}
        options = Options(**given, rewords=on_blocked is not None)
        hooks.append(hook := VeoHook())
        journal, budget = journal_of_batch(), Budget(hook.settings, options.max_cost)
        records = {key: each.of_try(options.try_id) for key, each in journal.begin().items()}
        budget.begin(batch, records.values())
        run = Run(
            batch,
            records,
            options,
            hook=hook,
            journal=journal,
            budget=budget,
            checkpoint=checkpoint,
            store=lambda each, record: store(hook, each, record),
            reword=lambda each, record: reword(hook, on_blocked, each, record),
            publish=publish,
            metrics=TaskMetrics("dag", "make_videos", hook.settings.catalog),
            log=LOG,
        )
        begun(run)
        try:
            run.go(outcomes or {})
        except BaseException as error:
            return Tried(run, None, error)
        stopped = str(run.engine.stopped) if run.engine.stopped else None
        results = Results(batch, run.engine.records, budget.account, download=options.download, stopped=stopped)
        return Tried(run, results, None)

    yield go
    for hook in hooks:
        hook.close()


def ids_at(relay):
    return {each["id"] for each in relay.videos()}


def creates(relay):
    return relay.stats()["requests"].get("create", 0)
