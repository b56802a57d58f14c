"""Submit one video, and push its id to XCom.

A submission is billed, and Airflow runs tasks at least once. The task instance's journal tells later tries what was
submitted. If no journal outlives the try, any error after a submission fails the task for good, so that Airflow's
retries are not billed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, BaseOperator, conf

from airflow_provider_veo.journal import UNPROTECTED, open_journal
from airflow_provider_veo.journal.decision import Action, if_blocked
from airflow_provider_veo.journal.spend import spend_of
from airflow_provider_veo.links import VideoLink, failure_pushed
from airflow_provider_veo.metrics import SUCCEEDED, UNTAGGED, TaskMetrics
from airflow_provider_veo.operators.arguments import AMBIGUOUS, CLEARED, choice_mistakes, number_mistakes
from airflow_provider_veo.operators.lineage import FileLineage
from airflow_provider_veo.operators.rewording import blocked_mistakes, other_prompt
from airflow_provider_veo.operators.storing import Download, announce
from airflow_provider_veo.operators.submit import Submitter
from airflow_provider_veo.operators.task import VeoTask
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoContentBlockedError,
    VeoError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoValidationError,
    VideoTask,
    coerce,
)
from airflow_provider_veo.protocol.errors import from_dict
from airflow_provider_veo.protocol.payload import REQUEST_FIELDS, VideoRequest, literal_mistakes
from airflow_provider_veo.protocol.prices import calculating, number
from airflow_provider_veo.protocol.text import shortened
from airflow_provider_veo.protocol.waiting import FIRST_LOOK_INTERVALS, raise_if_failed

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_veo.journal import Submission, TaskJournal
    from airflow_provider_veo.operators.submit import Submitted

_ABOUT_THE_REQUEST = ("model", "prompt", "images", "aspect_ratio", "submitted_at", "cost")
_IMAGE_CHARACTERS_PUSHED = 2048
"""An image may be a ``data:`` URI of several MB, too large for the metadata database."""


class VeoCreateVideoOperator(VeoTask, FileLineage, BaseOperator):
    """
    Submit a video to Veo, and return the id that the relay gave.

    It is billed once: a later try of the same task instance, including one after a user cleared it, continues with the
    video on record. The video is submitted again if its generation failed or the request has changed. Airflow 3.4
    deletes the record of a task that is cleared, unless it is asked to keep it, or ``[veo] journal_path`` is set.

    XComs: ``return_value``, the id, always a string; ``veo_video``, a dict of the
    :class:`~airflow_provider_veo.protocol.VideoTask` with the request's model, prompt, images and aspect ratio,
    ``submitted_at`` (ISO 8601) and ``cost`` (from the connection's ``prices``). After waiting also ``video_url``, and
    with ``download_to`` also ``veo_file``, see :class:`~airflow_provider_veo.operators.VeoDownloadVideoOperator`. The
    id and ``veo_video`` are pushed as soon as the relay has accepted the video, even if the wait fails later.
    ``veo_spend``: what all tries have cost and may have cost, see :mod:`airflow_provider_veo.journal.spend`.

    :param prompt: description of the video (templated; a name ending in ``.prompt`` or ``.j2`` is a template file). Veo
        reads English; ``enhance_prompt`` translates.
    :param model: model, e.g. ``veo3-fast`` (templated). Default: the connection's ``default_model``.
    :param images: http(s) URLs or ``data:image/`` URIs (templated): a list, an XComArg, or a string that renders to a
        JSON or Python list or is a single URL. The model determines how many are allowed, and whether they are first
        frame, last frame or elements. Default: none.
    :param aspect_ratio: ``"16:9"`` (default) or ``"9:16"`` (templated); the latter only for models that honour it.
    :param enhance_prompt: let the relay rewrite the prompt and translate it to English (templated). Default: true.
    :param enable_upsample: request the upsampled file (templated). Default: false.
    :param extra_body: additional request fields for relays that accept them (templated). They never override the
        fields above. Default: none.
    :param veo_conn_id: id of a connection of type ``veo`` (templated). Default: ``veo_default``.
    :param wait_for_completion: wait for the video in this task. Default: false.
    :param deferrable: wait without a worker slot. Default: Airflow's ``[operators] default_deferrable``.
    :param poll_interval: seconds between two polls. Default: 15.
    :param timeout: maximum wait in seconds, counted from the submission, across tries. Default: 3600.
    :param durable: record the submission across tries: in Airflow's task state store (3.3 and later), or under
        ``[veo] journal_path``. Default: true.
    :param on_ambiguous_submit: what to do if it is unknown whether a request was accepted, because the answer was lost
        or the worker died: ``"fail"`` for good (default), or ``"resubmit"``, which may be billed twice.
    :param attempts_if_blocked: maximum number of times that the task's retries submit the same prompt again if the
        safety filter blocked it; each may be billed. Then the task fails for good. Without a record across tries,
        ``retries`` is the limit. Default: 1.
    :param on_blocked: a function that may return another prompt for a video that is still blocked, or ``None``. A retry
        calls it with the prompt, and by name with ``reason`` (the relay's) if it takes that. What it returns is
        recorded and submitted, again up to ``attempts_if_blocked`` times. Default: none.
    :param on_cleared: what to do if a user cleared the task, and Airflow deleted its record with the task's state, as
        Airflow 3.4 does by default: ``"submit"``, which is billed again if an earlier try submitted a video, or
        ``"fail"`` for good. Default: the connection's ``on_cleared``, or ``"submit"``.
    :param existing_veo_task_id: id of a video to attach to instead of submitting one (templated).
    :param download_to: where to store the file after waiting (templated); see ``destination`` of
        :class:`~airflow_provider_veo.operators.VeoDownloadVideoOperator`. Default: the file is not stored.
    """

    template_fields: Sequence[str] = (*REQUEST_FIELDS, "veo_conn_id", "existing_veo_task_id", "download_to")
    template_ext: Sequence[str] = (".prompt", ".j2")
    template_fields_renderers = {"images": "json", "extra_body": "json"}  # noqa: RUF012  as Airflow declares it
    operator_extra_links = (VideoLink(),)
    ui_color = "#e8eaf6"

    def __init__(
        self,
        *,
        prompt: str | XComArg,
        model: str | XComArg | None = None,
        images: Sequence[str | XComArg] | str | XComArg | None = None,
        aspect_ratio: str | XComArg = "16:9",
        enhance_prompt: bool | str | XComArg = True,
        enable_upsample: bool | str | XComArg = False,
        extra_body: Mapping[str, Any] | str | XComArg | None = None,
        veo_conn_id: str | XComArg = "veo_default",
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 15,
        timeout: float = 3600,
        durable: bool = True,
        on_ambiguous_submit: Literal["fail", "resubmit"] = "fail",
        attempts_if_blocked: int = 1,
        on_blocked: Callable[..., str | None] | None = None,
        on_cleared: Literal["submit", "fail"] | None = None,
        existing_veo_task_id: str | XComArg | None = None,
        download_to: str | XComArg | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt
        self.model = model
        self.images = images
        self.aspect_ratio = aspect_ratio
        self.enhance_prompt = enhance_prompt
        self.enable_upsample = enable_upsample
        self.extra_body = extra_body
        self.veo_conn_id = veo_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.durable = durable
        self.on_ambiguous_submit = on_ambiguous_submit
        self.attempts_if_blocked = attempts_if_blocked
        self.on_blocked = on_blocked
        self.on_cleared = on_cleared
        self.existing_veo_task_id = existing_veo_task_id
        self.download_to = download_to
        self._veo_task_id: str | None = None
        if not self.is_from_mapped:  # else execute checks them
            self._fail_on_mistakes_in_the_dag_file()

    def execute(self, context: Context) -> str:
        """Submit the video, or attach to the given one; wait for it if requested."""
        journal = open_journal(context, durable=self.durable)
        if self.durable and not journal.survives:
            self.log.warning(UNPROTECTED)
        try:
            with self._failures(journal):
                with self._spend_pushed(context, journal):
                    asked_for, submitted = self._submit(journal, context)
                video, submitted_at = submitted.video, submitted.at
                self._veo_task_id = video.id
                pushed = {**video.to_dict(), **asked_for}
                self._push(context, pushed)
                self.push_spend(context, lambda: spend_of([submitted.record], {}))
                with failure_pushed(context, pushed, submitted_at):
                    raise_if_failed(video)
                if not self.wait_for_completion:
                    return video.id
                if self.deferrable and not (video.state == "succeeded" and video.video_url):
                    self._defer(video.id, submitted_at)
                with failure_pushed(context, pushed, submitted_at):
                    ready = self._wait(video.id, submitted_at)
                return self._finish(context, {**ready.to_dict(), **asked_for}, submitted_at)
        finally:
            self.hook.close()

    def execute_complete(
        self, context: Context, event: dict[str, Any], returned: Mapping[str, Any] | None = None
    ) -> str:
        """Continue after the trigger: with the video, or with the error that ended the wait."""
        self.take_returned(returned)
        submitted, since = self._pushed(context) or {}, event.get("started")
        if "error" in event:
            with failure_pushed(context, submitted, since):
                raise from_dict(event["error"])
        asked_for = {name: submitted[name] for name in _ABOUT_THE_REQUEST if name in submitted}
        try:
            return self._finish(context, {**event["video"], **asked_for}, since)
        finally:
            self.hook.close()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume as Airflow does, but don't let an error after a submission, even Airflow's own, submit again."""
        self._veo_task_id = "(its id is in this try's first log)"
        with self._failures(open_journal(context, durable=self.durable)):
            self._veo_task_id = (self._pushed(context) or {}).get("id", self._veo_task_id)
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Log that the video will be billed: the API cannot cancel it."""
        if self._veo_task_id:
            self.log.warning(
                "This task was killed. Video %s is still being generated and will be billed. The API cannot cancel a "
                "video. If this task is durable, its next try continues with the video; any other task can, with "
                "existing_veo_task_id=%r.",
                self._veo_task_id,
                self._veo_task_id,
            )

    @property
    def _is_attaching(self) -> bool:
        return not coerce.is_nothing(self.existing_veo_task_id)

    def _request(self) -> dict[str, Any]:
        request, settings = VideoRequest.of(self), self.hook.settings
        if coerce.is_nothing(request.model):
            request = replace(request, model=settings.default_model)
        return request.body(settings.catalog)

    def _submit(self, journal: TaskJournal, context: Context) -> tuple[dict[str, Any], Submitted]:
        """Return the request, and the video: a new one, the one on record, or the given one."""
        mistakes = [*self._download_mistakes(), *blocked_mistakes(self.attempts_if_blocked, self.on_blocked)]
        if mistakes:
            raise VeoValidationError("The arguments are not valid. Nothing was sent or billed.", mistakes)
        if self.wait_for_completion and self.deferrable:
            from airflow_provider_veo.hooks.exchange import usable_proxy

            usable_proxy(self.hook.settings)  # otherwise the video would be billed, but could not be waited for
        ti = context["ti"]
        submitter = self._submitter(journal, ti.try_number, TaskMetrics.of(ti, self.hook.settings.catalog))
        if not self._is_attaching:
            request = self._request()
            submitted = submitter.submit(request)
            return self._asked_for(request, submitted), submitted
        # The request that the task would have sent, as far as it can be determined. It is not sent.
        images = coerce.images(self.images)
        request = {name: coerce.text(getattr(self, name)) for name in ("model", "prompt", "aspect_ratio")}
        request["images"] = images if isinstance(images, list) else []
        recordable = request
        with suppress(VeoValidationError):
            recordable = self._request()
        submitted = submitter.attach(str(self.existing_veo_task_id), recordable)
        return self._asked_for(request, submitted), submitted

    def _submitter(self, journal: TaskJournal, try_number: int = 1, metrics: TaskMetrics = UNTAGGED) -> Submitter:
        def reword(body: Mapping[str, Any], blocked: Submission) -> str:
            return other_prompt(self.on_blocked, body, blocked, self.hook.settings.catalog, self.log)

        return Submitter(
            self.hook,
            journal,
            self.on_ambiguous_submit,
            self.log,
            try_number,
            self.on_cleared,
            self.attempts_if_blocked,
            reword if self.on_blocked else None,
            metrics,
        )

    @contextmanager
    def _spend_pushed(self, context: Context, journal: TaskJournal) -> Iterator[None]:
        """If a try fails, push what it and earlier tries may have been billed: Airflow has removed their XComs."""
        try:
            yield
        except (Exception, AirflowTaskTimeout):
            self.push_spend(context, lambda: spend_of(filter(None, [journal.read()]), {}))
            raise

    @contextmanager
    def _failures(self, journal: TaskJournal) -> Iterator[None]:
        """Decide which errors Airflow may retry: those that another try may fix without being billed again."""
        with calculating():
            try:
                yield
            except AirflowFailException:
                raise
            except (Exception, AirflowTaskTimeout) as error:
                if not self._is_final(error, journal):
                    raise
                text = str(error) if isinstance(error, VeoError) else f"{type(error).__name__}: {error}"
                raise AirflowFailException(f"{text}{self._advice(error, journal)}") from error

    def _is_final(self, error: BaseException, journal: TaskJournal) -> bool:
        if isinstance(error, VeoError) and error.final:
            return True
        if isinstance(error, VeoContentBlockedError) and not self._is_attaching:
            is_never_again = not journal.survives and not self.attempts_if_blocked
            return is_never_again or self._stays_blocked(error, journal)
        if journal.survives or self._is_attaching:
            return False
        if isinstance(error, (VeoGenerationFailedError, VeoAmbiguousSubmitError)):
            return False  # retries, or on_ambiguous_submit='resubmit', request another submission
        return self._veo_task_id is not None or journal.read() is not None

    def _stays_blocked(self, error: VeoContentBlockedError, journal: TaskJournal) -> bool:
        """Whether no retry submits a blocked video again."""
        with suppress(VeoError):  # the next try reads the journal again
            recorded, submitter = journal.read(), self._submitter(journal)
            if recorded is not None and recorded.veo_task_id == error.veo_task_id:
                video = VideoTask(id=str(error.veo_task_id), state="failed", status="failed", error=str(error))
                return if_blocked(submitter.known(recorded, video), submitter.policy) is Action.NOTHING
        return False

    def _advice(self, error: BaseException, journal: TaskJournal) -> str:
        if not self._veo_task_id or self._is_attaching:
            return ""
        if not journal.survives:
            return (
                f"\nVideo {self._veo_task_id} was submitted and is billed. It is not on record across tries, so this "
                f"task is not retried. To continue with it, set existing_veo_task_id={self._veo_task_id!r}."
            )
        if isinstance(error, VeoContentBlockedError):
            return (
                "\nIt is not submitted again. To submit it again, change the prompt or the images, raise "
                "attempts_if_blocked, or set on_blocked. Then clear this task."
            )
        again = ". If the relay still doesn't know it, it is submitted again" * isinstance(error, VeoNotFoundError)
        kept = " and keep its state ('Keep task state and resume')" * journal.is_lost_when_cleared
        return f"\nVideo {self._veo_task_id} is billed and on record. Clear this task{kept} to continue with it{again}."

    def _defer(self, veo_task_id: str, submitted_at: float) -> None:
        from airflow_provider_veo.triggers import VeoVideoTrigger

        self.log.info("Deferred: polling video %s from the triggerer, for at most %.0f s", veo_task_id, self.timeout)
        self.defer(
            trigger=VeoVideoTrigger(
                veo_task_id=veo_task_id,
                veo_conn_id=str(self.veo_conn_id),
                started=submitted_at,
                timeout=self.timeout,
                poll_interval=self.poll_interval,
                due=submitted_at + FIRST_LOOK_INTERVALS * self.poll_interval,
            ),
            method_name="execute_complete",
            kwargs=self.kwargs_to_resume,
        )

    def _wait(self, veo_task_id: str, submitted_at: float) -> VideoTask:
        self.log.info("Waiting for video %s, for at most %.0f s", veo_task_id, self.timeout)
        return self.hook.wait_for_video(veo_task_id, self.poll_interval, self.timeout, started=submitted_at)

    def _asked_for(self, request: Mapping[str, Any], submitted: Submitted) -> dict[str, Any]:
        model = submitted.video.model if coerce.is_nothing(request["model"]) else request["model"]
        at = datetime.fromtimestamp(submitted.at, tz=timezone.utc)
        return {
            "model": model,
            "prompt": request["prompt"] if submitted.reworded is None else submitted.reworded,
            "images": [shortened(str(image), _IMAGE_CHARACTERS_PUSHED) for image in request.get("images") or ()],
            "aspect_ratio": request["aspect_ratio"],
            "submitted_at": at.isoformat(timespec="seconds"),
            "cost": 0.0 if self._is_attaching else number(self.hook.settings.price_of(request)),
        }

    def _push(self, context: Context, veo_video: dict[str, Any]) -> None:
        ti = context["ti"]
        ti.xcom_push(key="veo_video", value=veo_video)
        VideoLink.persist(context, veo_video)
        if self.do_xcom_push:
            ti.xcom_push(key="return_value", value=veo_video["id"])

    def _pushed(self, context: Context) -> dict[str, Any] | None:
        ti = context["ti"]
        pushed: dict[str, Any] | None = ti.xcom_pull(task_ids=self.task_id, key="veo_video", map_indexes=ti.map_index)
        return pushed

    def _finish(self, context: Context, veo_video: dict[str, Any], since: float | None) -> str:
        self._push(context, veo_video)
        context["ti"].xcom_push(key="video_url", value=veo_video["video_url"])
        self.log.info("Video %s is ready: %s", veo_video["id"], veo_video["video_url"])
        if not coerce.is_nothing(self.download_to):
            self._download(context, veo_video)
        # Last: if the file can't be stored, the next try finds the same video.
        TaskMetrics.of(context["ti"]).ended(SUCCEEDED, veo_video.get("model"), since)
        video_id: str = veo_video["id"]
        return video_id

    def _download(self, context: Context, veo_video: dict[str, Any]) -> None:
        download = Download(self.hook, str(self.download_to), self.log)
        stored = download.run_and_push(context, veo_video["video_url"], veo_video["id"])
        self.report_lineage(veo_video.get("images", ()), stored)
        announce(context, self.outlets, stored)

    def _fail_on_mistakes_in_the_dag_file(self) -> None:
        literals = {name: value for name in REQUEST_FIELDS if self._is_literal(value := getattr(self, name))}
        mistakes = literal_mistakes(literals)
        mistakes += self._download_mistakes()
        mistakes += choice_mistakes("on_ambiguous_submit", self.on_ambiguous_submit, AMBIGUOUS)
        mistakes += blocked_mistakes(self.attempts_if_blocked, self.on_blocked)
        if self.on_cleared is not None:
            mistakes += choice_mistakes("on_cleared", self.on_cleared, CLEARED)
        for name in ("poll_interval", "timeout"):
            mistakes += number_mistakes(name, getattr(self, name))
        self.refuse(mistakes)

    def _download_mistakes(self) -> list[str]:
        if self.wait_for_completion or coerce.is_nothing(self.download_to):
            return []
        return ["download_to: the file can be stored only after waiting: set wait_for_completion=True"]

    def _is_literal(self, value: Any) -> bool:
        if isinstance(value, str):
            return not any(mark in value for mark in ("{{", "{%", "{#")) and not value.endswith(
                tuple(self.template_ext)
            )
        if isinstance(value, Mapping):
            return all(map(self._is_literal, value.values()))
        if isinstance(value, (list, tuple)):
            return all(map(self._is_literal, value))
        return value is None or isinstance(value, (bool, int, float))
