"""
Many videos in one task: submit as fast as the relay allows, wait without a worker slot, store every file.

Each submission is recorded under ``result_path`` before it is sent. Later tries, and each process of one try, continue
from these records.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    BaseOperator,
    XComArg,
    conf,
)

from airflow_provider_veo.batch.checkpoint import BatchCheckpoint
from airflow_provider_veo.batch.options import Options
from airflow_provider_veo.journal.identity import owner_of
from airflow_provider_veo.journal.spend import spend_of
from airflow_provider_veo.metrics import TaskMetrics
from airflow_provider_veo.operators.arguments import AMBIGUOUS, choice_mistakes, number, number_mistakes, shard_mistakes
from airflow_provider_veo.operators.lineage import FileLineage
from airflow_provider_veo.operators.outcome import failure_of, log_results
from airflow_provider_veo.operators.publishing import publish
from airflow_provider_veo.operators.rewording import blocked_mistakes, other_prompt
from airflow_provider_veo.operators.sharding import Sharded
from airflow_provider_veo.operators.storing import Download, announce_batch, batch_file_name
from airflow_provider_veo.operators.task import VeoTask
from airflow_provider_veo.protocol import coerce
from airflow_provider_veo.protocol.errors import from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_veo.batch.budget import Budget
    from airflow_provider_veo.batch.inputs import BatchInput, Jobs
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.batch.progress import Progress
    from airflow_provider_veo.batch.run import Remaining, Run
    from airflow_provider_veo.journal.batch_journal import BatchJournal
    from airflow_provider_veo.journal.submission import Submission

_DEFAULTS = ("model", "aspect_ratio", "enhance_prompt", "enable_upsample", "extra_body")
_COUNTS = ("max_videos", "max_in_flight", "attempts_per_video", "shards")
_AMOUNTS = ("max_cost", "requests_per_minute", "poll_interval", "timeout")
_MAY_BE_NOTHING = ("max_videos", "max_cost", "requests_per_minute")
KILLED = "The task was killed. Its next try continues with the submitted videos."
SECONDS_TO_SEE_A_VIDEO = 120.0
"""Seconds after the first ready video until the worker is resumed, if there is work to do for it."""

# A log line for each of thousands of files is too much. Warnings and errors are still logged.
_file_log = logging.getLogger(f"{__name__}.files")
_file_log.setLevel(logging.WARNING)


class VeoVideoBatchOperator(VeoTask, Sharded, FileLineage, BaseOperator):
    """
    Make many videos in one task, each billed once, and write a row with the result of each.

    Give ``jobs`` or ``manifest``. All jobs are validated before the first one is sent, and all mistakes are reported
    together. A retry, or a run after a user cleared the task, continues with everything that was accepted, and submits
    only what was never sent.

    Under ``result_path`` it writes ``results.jsonl``, one row per job in their order, ``summary.json``,
    ``report.html``, a report for people, the files in ``videos/``, and ``_journal/``, which must be kept for as long as
    anybody may clear the task. A shard writes below ``_shards/``, and
    :class:`~airflow_provider_veo.operators.VeoMergeShardsOperator` merges the results of all shards.

    XComs: ``return_value``, a dict: ``results``, ``summary`` and ``report`` (URIs), ``total``, the number of jobs in
    each state (``succeeded``, ``not_stored``, ``failed``, ``blocked``, ``refused``, ``unknown``, ``timed_out``,
    ``not_submitted``), ``cost``, ``possible_cost`` (what may have been billed in addition);
    ``summary_text``, five lines for a chat message, and ``report_path``, the report's path for ``ObjectStoragePath``,
    both also if the task fails with results;
    ``progress``, at most every 30 s: ``total``, ``done``, ``failed``, ``generating``, ``to_submit``, ``since``,
    ``cost``, ``folder``; ``veo_spend``, with it: cost and possible cost by day and model, see
    :mod:`airflow_provider_veo.journal.spend`.

    :param result_path: URI of a folder, for ``ObjectStoragePath`` (templated). It must be the same in all tries of a
        task instance, and differ between task instances: put ``{{ ds }}`` into it, ``{{ ti.map_index }}`` if the task
        is mapped, and ``{{ loop.index }}`` if it is in a task loop. All shards of a batch have the same one.
    :param jobs: prompts, or dicts of the create operator's request fields (``prompt``, ``model``, ``images``,
        ``aspect_ratio``, ``enhance_prompt``, ``enable_upsample``, ``extra_body``), with an optional unique ``key`` and
        an optional ``existing_veo_task_id``, a video to attach to instead of submitting one (templated).
    :param manifest: URI of a JSONL or CSV file with the jobs (templated). In CSV, ``images`` are separated by ``|``.
    :param model: model of jobs that name none (templated). Default: the connection's ``default_model``.
    :param aspect_ratio: ``"16:9"`` (default) or ``"9:16"``, for jobs that don't set it (templated).
    :param enhance_prompt: ``enhance_prompt`` of jobs that don't set it (templated). Default: true.
    :param enable_upsample: ``enable_upsample`` of jobs that don't set it (templated). Default: false.
    :param extra_body: ``extra_body`` of jobs that don't set it (templated). Default: none.
    :param render_prompts: render the prompts of a manifest as templates, in a sandbox with a few scalars, see
        :mod:`airflow_provider_veo.batch.rendering`. Default: prompts are sent as they are.
    :param max_videos: maximum number of jobs; more of them are an error (templated). Default: no limit.
    :param max_cost: maximum total price of the jobs, by the connection's ``prices``; more is an error, and
        resubmissions stay within it, too (templated). Default: no limit.
    :param max_in_flight: maximum number of videos being generated at a time. Default: 20.
    :param requests_per_minute: maximum number of requests to the relay per minute, including polls. Default: no limit.
    :param attempts_per_video: maximum number of submissions of a job whose generation fails, except those that the
        safety filter blocked. Default: 1.
    :param attempts_if_blocked: maximum number of times that the same prompt is submitted again if the safety filter
        blocked it, across all tries; each may be billed. Default: 1.
    :param on_blocked: a function that may return another prompt for a job that is still blocked, or ``None``. It is
        called with the prompt, and by name with those of ``reason`` (the relay's) and ``key`` (the job's) that it
        takes. What it returns is recorded and submitted, again up to ``attempts_if_blocked`` times. Default: none.
    :param on_ambiguous_submit: what to do if it is unknown whether a job was accepted: ``"fail"`` (default), which
        reports it and continues with the others, or ``"resubmit"``, which may be billed twice.
    :param shards: number of tasks that share the batch. Each validates all jobs, takes those whose keys belong to it,
        and uses its part of ``max_in_flight``, ``requests_per_minute`` and what the jobs leave of ``max_cost``. All
        tries must have the same number. Default: 1.
    :param shard: number of this task among them, from 0. Default: 0.
    :param download: store each video's file as soon as it is ready. Default: true.
    :param fail_on_partial_error: fail unless all jobs succeeded. Default: fail only if none did.
    :param veo_conn_id: id of a connection of type ``veo`` (templated). Default: ``veo_default``.
    :param deferrable: wait without a worker slot. Default: Airflow's ``[operators] default_deferrable``.
    :param poll_interval: seconds between two polls of a video. Default: 15.
    :param timeout: maximum wait for a video in seconds, counted from its submission, across tries. Default: 3600.
    """

    template_fields: Sequence[str] = (
        "jobs",
        "manifest",
        "result_path",
        *_DEFAULTS,
        "max_videos",
        "max_cost",
        "veo_conn_id",
    )
    template_ext: Sequence[str] = (".prompt", ".j2")
    template_fields_renderers = {"jobs": "json", "extra_body": "json"}  # noqa: RUF012  as Airflow declares it
    ui_color = "#e8eaf6"

    def __init__(
        self,
        *,
        result_path: str | XComArg,
        jobs: Sequence[str | Mapping[str, Any] | XComArg] | str | XComArg | None = None,
        manifest: str | XComArg | None = None,
        model: str | XComArg | None = None,
        aspect_ratio: str | XComArg = "16:9",
        enhance_prompt: bool | str | XComArg = True,
        enable_upsample: bool | str | XComArg = False,
        extra_body: Mapping[str, Any] | str | XComArg | None = None,
        render_prompts: bool = False,
        max_videos: int | str | XComArg | None = None,
        max_cost: float | str | XComArg | None = None,
        max_in_flight: int = 20,
        requests_per_minute: float | None = None,
        attempts_per_video: int = 1,
        attempts_if_blocked: int = 1,
        on_blocked: Callable[..., str | None] | None = None,
        on_ambiguous_submit: Literal["fail", "resubmit"] = "fail",
        shards: int = 1,
        shard: int = 0,
        download: bool = True,
        fail_on_partial_error: bool = False,
        veo_conn_id: str | XComArg = "veo_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 15,
        timeout: float = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.result_path = result_path
        self.jobs = jobs
        self.manifest = manifest
        self.model = model
        self.aspect_ratio = aspect_ratio
        self.enhance_prompt = enhance_prompt
        self.enable_upsample = enable_upsample
        self.extra_body = extra_body
        self.render_prompts = render_prompts
        self.max_videos = max_videos
        self.max_cost = max_cost
        self.max_in_flight = max_in_flight
        self.requests_per_minute = requests_per_minute
        self.attempts_per_video = attempts_per_video
        self.attempts_if_blocked = attempts_if_blocked
        self.on_blocked = on_blocked
        self.on_ambiguous_submit = on_ambiguous_submit
        self.shards = shards
        self.shard = shard
        self.download = download
        self.fail_on_partial_error = fail_on_partial_error
        self.veo_conn_id = veo_conn_id
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self._run: Run | None = None
        self._killed = False
        if not self.is_from_mapped:
            self._fail_on_mistakes(rendered=False)

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the videos, or continue with those that an earlier try has submitted."""
        from airflow_provider_veo.batch import inputs
        from airflow_provider_veo.journal.submission import INTENDED

        with self.talking_to_the_relay():
            self._fail_on_mistakes(rendered=True)
            journal = self.journal(context, self.log)
            with self._spend_pushed(context, journal):
                read = self._input(context).read(journal, self.hook.settings, self.log)
            records = journal.begin()
            self.refuse_another_division()  # which may have begun at the same time
            self._metrics(context).found_unknown(sum(each.state == INTENDED for each in records.values()))
            jobs = inputs.settled(journal, read, is_rendered=self.render_prompts)
            return self._work(context, journal, jobs, records, BatchCheckpoint(), {})

    def execute_complete(
        self, context: Context, event: dict[str, Any], returned: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Continue after the trigger: store the videos that are ready, and submit the next ones."""
        from airflow_provider_veo.batch import inputs

        self.take_returned(returned)
        with self.talking_to_the_relay():
            if "error" in event:
                raise from_dict(event["error"])
            journal = self.journal(context, self.log)
            records = journal.begin()
            checkpoint = BatchCheckpoint.of(event)
            return self._work(context, journal, inputs.recorded(journal), records, checkpoint, event["outcomes"])

    def on_kill(self) -> None:
        """Submit nothing more, and log that videos in flight will be billed: the API cannot cancel them."""
        self._killed = True
        if self._run:
            self.log.warning(
                "This task was killed. Up to %d videos are still being generated and will be billed. The API cannot "
                "cancel a video.",
                len(self._run.engine.places.in_flight),
            )
            self._run.kill(AirflowException(KILLED))

    def _work(
        self,
        context: Context,
        journal: BatchJournal,
        read: Jobs,
        records: dict[str, Submission],
        checkpoint: BatchCheckpoint,
        outcomes: Mapping[str, Any],
    ) -> dict[str, Any]:
        from airflow_provider_veo.batch.budget import Budget
        from airflow_provider_veo.batch.run import Run

        jobs, options = read.jobs, self._options(checkpoint.try_id)
        records = {key: record.of_try(options.try_id) for key, record in records.items()}
        budget = Budget(self.hook.settings, options.max_cost)
        budget.begin(jobs, records.values())
        self.limit(budget, options.max_cost, read)
        self._run = Run(
            jobs,
            records,
            options,
            hook=self.hook,
            journal=journal,
            budget=budget,
            checkpoint=checkpoint,
            store=lambda job, record: self._store(context, job, record),
            reword=self._reword,
            publish=lambda progress: self._publish(context, progress, jobs),
            metrics=self._metrics(context),
            log=self.log,
        )
        if self._killed:  # before the run existed
            raise AirflowException(KILLED)
        try:
            remaining = self._run.go(outcomes)
        except Exception:
            self._push_spend(context, self._run, jobs)
            raise
        must_wait = self.deferrable and bool(remaining)
        self._run.report(at_once=must_wait)
        if must_wait:
            self._defer(self._run, remaining, options)
        return self._finish(context, journal, read, self._run, budget)

    def _store(self, context: Context, job: Job, record: Submission) -> Mapping[str, Any]:
        from airflow_provider_veo.batch.results import VIDEOS

        veo_task_id, url = str(record.veo_task_id), (record.video or {}).get("video_url")
        destination = f"{self.batch_uri}/{VIDEOS}/{batch_file_name(job.key if job.named else None, veo_task_id)}"
        download = Download(self.hook, destination, _file_log)
        return download.run(context, url or download.url_of(veo_task_id), veo_task_id).to_dict()

    def _reword(self, job: Job, record: Submission) -> str:
        settings = self.hook.settings
        body = record.body_for(job.wanted(settings.billed))
        return other_prompt(self.on_blocked, body, record, settings.catalog, self.log)

    def _publish(self, context: Context, progress: Progress, jobs: list[Job]) -> None:
        self.log.info(progress.line(time.time()))
        context["ti"].xcom_push(key="progress", value=self._located(progress))
        if self._run:
            self._push_spend(context, self._run, jobs)

    def _push_spend(self, context: Context, run: Run, jobs: list[Job]) -> None:
        from airflow_provider_veo.batch.jobs import models_of

        self.push_spend(context, lambda: spend_of(run.engine.records.values(), models_of(jobs)))

    @contextmanager
    def _spend_pushed(self, context: Context, journal: BatchJournal) -> Iterator[None]:
        """If the jobs can't be read, push what earlier tries were billed: Airflow has removed their XComs."""
        from airflow_provider_veo.batch.inputs import recorded
        from airflow_provider_veo.batch.jobs import models_of

        try:
            yield
        except Exception:
            self.push_spend(context, lambda: spend_of(journal.read().values(), models_of(recorded(journal).jobs)))
            raise

    def _located(self, progress: Progress) -> dict[str, Any]:
        return {**progress.to_dict(), "folder": self.folder_uri}

    def _defer(self, run: Run, remaining: Remaining, options: Options) -> NoReturn:
        from airflow_provider_veo.triggers import VeoVideoBatchTrigger

        checkpoint, has_more = run.checkpoint, remaining.has_more
        self.log.info("Deferred: polling %d videos from the triggerer", remaining.in_flight)
        self.defer(
            trigger=VeoVideoBatchTrigger(
                videos=run.watched,
                veo_conn_id=str(self.veo_conn_id),
                timeout=self.timeout,
                poll_interval=self.poll_interval,
                enough=options.enough_slots if has_more else 0,
                linger=SECONDS_TO_SEE_A_VIDEO if has_more or self.download else None,
                wake_at=remaining.wake_at,
                requests_per_minute=options.requests_per_minute,
                held_until=run.limiter.held_until,
                refused_since=checkpoint.refused_since,
                progress=self._located(run.progress),
                told_at=run.reported_at,
                handed_on=checkpoint.to_dict(),
            ),
            method_name="execute_complete",
            kwargs=self.kwargs_to_resume,
        )
        raise AssertionError  # defer never returns

    def _finish(self, context: Context, journal: BatchJournal, read: Jobs, run: Run, budget: Budget) -> dict[str, Any]:
        from airflow_provider_veo.batch.results import Results

        stopped = run.engine.stopped
        why = str(stopped) if stopped else None
        results = Results(read.jobs, run.engine.records, budget.account, download=self.download, stopped=why)
        ti = context["ti"]
        ti.xcom_push(key="progress", value=self._located(run.progress))
        self.push_spend(context, lambda: results.spend)
        about = {**owner_of(context), "try_number": ti.try_number, "account": budget.account.name}
        if self.as_shard.is_whole:
            short = publish(context, results, self.folder, about, self.log, journal.give_way_to_the_newer)
        else:
            short = results.write(self.folder, about | self.as_shard.about(read), journal.give_way_to_the_newer)
        for job, stored in results.stored:
            self.report_lineage(job.body.get("images", ()), stored)
        log_results(self.log, results, short)
        if short["succeeded"] < short["total"] and (self.fail_on_partial_error or not short["succeeded"]):
            raise failure_of(results, short, stopped)
        announce_batch(context, self.outlets, short, [stored for _, stored in results.stored])
        return short

    def _input(self, context: Context) -> BatchInput:
        from airflow_provider_veo.batch.inputs import BatchInput
        from airflow_provider_veo.batch.rendering import PromptRenderer, template_values

        values = template_values(context, is_shard=not self.as_shard.is_whole)
        return BatchInput(
            jobs=self.jobs,
            manifest=None if coerce.is_nothing(self.manifest) else str(self.manifest),
            defaults={name: getattr(self, name) for name in _DEFAULTS},
            max_videos=number(self.max_videos, whole=True),
            max_cost=number(self.max_cost),
            render=PromptRenderer(values) if self.render_prompts else None,
            shard=self.as_shard,
        )

    def _options(self, try_id: str) -> Options:
        return Options(
            max_in_flight=self.as_shard.part_of(self.max_in_flight),
            requests_per_minute=self.requests_per_minute and self.requests_per_minute / self.as_shard.count,
            attempts_per_video=self.attempts_per_video,
            attempts_if_blocked=self.attempts_if_blocked,
            rewords=self.on_blocked is not None,
            on_ambiguous_submit=self.on_ambiguous_submit,
            poll_interval=self.poll_interval,
            timeout=self.timeout,
            deferrable=self.deferrable,
            download=self.download,
            max_cost=number(self.max_cost),
            try_id=try_id,
        )

    def _metrics(self, context: Context) -> TaskMetrics:
        return TaskMetrics.of(context["ti"], self.hook.settings.catalog)

    def _fail_on_mistakes(self, *, rendered: bool) -> None:
        mistakes = []
        given = [name for name in ("jobs", "manifest") if not coerce.is_nothing(getattr(self, name))]
        if len(given) != 1:
            mistakes.append(f"expected jobs or manifest, got {' and '.join(given) or 'neither'}")
        if coerce.is_nothing(self.result_path):
            mistakes.append("result_path: expected the URI of a folder")
        mistakes += choice_mistakes("on_ambiguous_submit", self.on_ambiguous_submit, AMBIGUOUS)
        mistakes += blocked_mistakes(self.attempts_if_blocked, self.on_blocked)
        for name in (*_COUNTS, *_AMOUNTS):
            mistakes += self._number_mistakes(name, rendered=rendered)
        mistakes += shard_mistakes(self.shard, self.shards, self.max_in_flight)
        self.refuse(mistakes)

    def _number_mistakes(self, name: str, *, rendered: bool) -> list[str]:
        whole = name in _COUNTS
        value = number(getattr(self, name), whole=whole)
        if (value is None and name in _MAY_BE_NOTHING) or (isinstance(value, (str, XComArg)) and not rendered):
            return []
        return number_mistakes(name, value, whole=whole)
