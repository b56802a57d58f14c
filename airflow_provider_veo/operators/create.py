"""Submit one video, and push its id to XCom.

A submit is paid for, and Airflow runs tasks at least once. What was submitted is in the task instance's journal, which
later tries go by. Where there is no journal that outlives the try, whatever goes wrong after a submission fails the
task for good, so that Airflow's retries don't pay a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, BaseOperator, conf

from airflow_provider_veo.journal import UNPROTECTED, open_journal
from airflow_provider_veo.links import VideoLink, failure_pushed
from airflow_provider_veo.operators.arguments import AMBIGUOUS, choice_mistakes, number_mistakes
from airflow_provider_veo.operators.lineage import FileLineage
from airflow_provider_veo.operators.storing import Download, announce
from airflow_provider_veo.operators.submit import Submitter
from airflow_provider_veo.operators.task import VeoTask
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoValidationError,
    coerce,
)
from airflow_provider_veo.protocol.errors import from_dict
from airflow_provider_veo.protocol.payload import REQUEST_FIELDS, VideoRequest, literal_mistakes
from airflow_provider_veo.protocol.text import shortened
from airflow_provider_veo.protocol.waiting import FIRST_LOOK_INTERVALS, raise_if_failed

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_veo.journal import TaskJournal
    from airflow_provider_veo.operators.submit import Submitted
    from airflow_provider_veo.protocol import VideoTask

_ABOUT_THE_REQUEST = ("model", "prompt", "images", "aspect_ratio", "submitted_at", "cost")
_IMAGE_CHARACTERS_PUSHED = 2048
"""An image may be a ``data:`` URI of megabytes: the metadata database is no place for it."""


class VeoCreateVideoOperator(VeoTask, FileLineage, BaseOperator):
    """
    Submit a video to Veo, and return the id that the relay gave.

    It is paid for once: a later try of the same task instance, also of one that a person has cleared, goes on with the
    video that is on record. It is submitted again where its generation failed, and where what is asked for has changed.

    XComs: ``return_value``, the id, always a string; ``veo_video``, a dict of the
    :class:`~airflow_provider_veo.protocol.VideoTask` with the request's model, prompt, images and aspect ratio, with
    ``submitted_at`` (ISO 8601) and ``cost`` (by the connection's ``prices``); after waiting also ``video_url``, and
    with ``download_to`` also ``veo_file``, as :class:`~airflow_provider_veo.operators.VeoDownloadVideoOperator` does.
    Id and ``veo_video`` are there as soon as the relay has accepted the video, also when the wait fails.

    :param prompt: what the video shows (templated; a name ending in ``.prompt`` or ``.j2`` is a template file). Veo
        reads English; ``enhance_prompt`` translates.
    :param model: e.g. ``veo3-fast`` (templated). Default: the connection's ``default_model``.
    :param images: http(s) URLs or ``data:image/`` URIs (templated): a list, an XComArg, or one string that renders to
        a JSON or Python list or is a single URL. How many, and whether they are first frame, last frame or elements,
        depends on the model.
    :param aspect_ratio: ``"16:9"`` or ``"9:16"`` (templated); the latter only for models that honour it.
    :param enhance_prompt: let the relay rewrite the prompt, and translate it to English (templated).
    :param enable_upsample: ask for the upsampled file (templated).
    :param extra_body: more fields for relays that take them, never overriding the above (templated).
    :param veo_conn_id: id of a connection of type ``veo`` (templated).
    :param wait_for_completion: wait for the video in this task.
    :param deferrable: wait without a worker slot. Default: Airflow's ``[operators] default_deferrable``.
    :param poll_interval: seconds between two questions while waiting.
    :param timeout: seconds to wait, from the submission, across tries.
    :param durable: remember the submission across tries: in Airflow's task state store from 3.3 on, or where
        ``[veo] journal_path`` says.
    :param on_ambiguous_submit: what to do when it can't be known whether a request was accepted, since the answer was
        lost or the worker died: ``"fail"`` for good, or ``"resubmit"``: submit it again, which may pay twice.
    :param existing_veo_task_id: attach to this video instead of paying for one (templated).
    :param download_to: after waiting, store the file here (templated); see ``destination`` of
        :class:`~airflow_provider_veo.operators.VeoDownloadVideoOperator`.
    """

    template_fields: Sequence[str] = (*REQUEST_FIELDS, "veo_conn_id", "existing_veo_task_id", "download_to")
    template_ext: Sequence[str] = (".prompt", ".j2")
    template_fields_renderers = {"images": "json", "extra_body": "json"}  # noqa: RUF012  as Airflow declares it
    operator_extra_links = (VideoLink(),)
    ui_color = "#e8eaf6"

    def __init__(
        self,
        *,
        prompt: str,
        model: str | None = None,
        images: Sequence[str] | str | None = None,
        aspect_ratio: str = "16:9",
        enhance_prompt: bool | str = True,
        enable_upsample: bool | str = False,
        extra_body: Mapping[str, Any] | str | None = None,
        veo_conn_id: str = "veo_default",
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 15,
        timeout: float = 3600,
        durable: bool = True,
        on_ambiguous_submit: Literal["fail", "resubmit"] = "fail",
        existing_veo_task_id: str | None = None,
        download_to: str | None = None,
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
        self.existing_veo_task_id = existing_veo_task_id
        self.download_to = download_to
        self._veo_task_id: str | None = None
        if not self.is_from_mapped:  # else execute checks them
            self._fail_on_mistakes_in_the_dag_file()

    def execute(self, context: Context) -> str:
        """Submit the video, or attach to the one that is given; wait for it if asked to."""
        journal = open_journal(context, durable=self.durable)
        if self.durable and not journal.survives:
            self.log.warning(UNPROTECTED)
        try:
            with self._failures(journal):
                asked_for, (video, submitted_at) = self._submit(journal, context)
                self._veo_task_id = video.id
                pushed = {**video.to_dict(), **asked_for}
                self._push(context, pushed)
                raise_if_failed(video)
                if not self.wait_for_completion:
                    return video.id
                if self.deferrable and not (video.state == "succeeded" and video.video_url):
                    self._defer(video.id, submitted_at)
                with failure_pushed(context, pushed):
                    ready = self._wait(video.id, submitted_at)
                return self._finish(context, {**ready.to_dict(), **asked_for})
        finally:
            self.hook.close()

    def execute_complete(
        self, context: Context, event: dict[str, Any], returned: Mapping[str, Any] | None = None
    ) -> str:
        """Go on where the trigger ended: with the video, or with the reason why there is none."""
        self.take_returned(returned)
        submitted = self._pushed(context) or {}
        if "error" in event:
            with failure_pushed(context, submitted):
                raise from_dict(event["error"])
        asked_for = {name: submitted[name] for name in _ABOUT_THE_REQUEST if name in submitted}
        try:
            return self._finish(context, {**event["video"], **asked_for})
        finally:
            self.hook.close()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's own; but what goes wrong after a submit, in Airflow too, must not become another submit."""
        self._veo_task_id = "(its id is in this try's first log)"
        with self._failures(open_journal(context, durable=self.durable)):
            self._veo_task_id = (self._pushed(context) or {}).get("id", self._veo_task_id)
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Say what goes on being billed: the API has no way to cancel a video."""
        if self._veo_task_id:
            self.log.warning(
                "This task was killed. Video %s goes on being generated, and is billed: the API has no cancel. "
                "If this task is durable, its next try goes on with the video; any other can, with "
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
        """Return what was asked for, and the video: a new one, the one on record, or the one that is given."""
        if mistakes := self._download_mistakes():
            raise VeoValidationError("The arguments are not valid. Nothing was sent or billed.", mistakes)
        if self.wait_for_completion and self.deferrable:
            from airflow_provider_veo.hooks.exchange import usable_proxy

            usable_proxy(self.hook.settings)  # else the video would be paid for, and could not be waited for
        try_number = context["ti"].try_number
        submitter = Submitter(self.hook, journal, self.on_ambiguous_submit, self.log, try_number)
        if not self._is_attaching:
            request = self._request()
            submitted = submitter.submit(request)
            return self._asked_for(request, submitted), submitted
        # What the task would have asked for, as far as it can be told: nothing of it is sent.
        images = coerce.images(self.images)
        request = {name: coerce.text(getattr(self, name)) for name in ("model", "prompt", "aspect_ratio")}
        request["images"] = images if isinstance(images, list) else []
        recordable = request
        with suppress(VeoValidationError):
            recordable = self._request()
        submitted = submitter.attach(str(self.existing_veo_task_id), recordable)
        return self._asked_for(request, submitted), submitted

    @contextmanager
    def _failures(self, journal: TaskJournal) -> Iterator[None]:
        """Decide which failures Airflow may retry: those that another try may mend, without paying again."""
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
        if journal.survives or self._is_attaching:
            return False
        if isinstance(error, (VeoGenerationFailedError, VeoAmbiguousSubmitError)):
            return False  # another submission is asked for, by retries and by on_ambiguous_submit='resubmit'
        return self._veo_task_id is not None or journal.read() is not None

    def _advice(self, error: BaseException, journal: TaskJournal) -> str:
        if not self._veo_task_id or self._is_attaching:
            return ""
        if not journal.survives:
            return (
                f"\nVideo {self._veo_task_id} is submitted and billed, and nothing remembers that across tries, so "
                f"this task is not tried again. To go on with it, set existing_veo_task_id={self._veo_task_id!r}."
            )
        again = ". If the relay doesn't know it then, it is submitted again" * isinstance(error, VeoNotFoundError)
        return f"\nVideo {self._veo_task_id} is billed, and on record: clear this task to go on with it{again}."

    def _defer(self, veo_task_id: str, submitted_at: float) -> None:
        from airflow_provider_veo.triggers import VeoVideoTrigger

        self.log.info("Waiting for video %s without a worker, at most %.0f s", veo_task_id, self.timeout)
        self.defer(
            trigger=VeoVideoTrigger(
                veo_task_id=veo_task_id,
                veo_conn_id=self.veo_conn_id,
                started=submitted_at,
                timeout=self.timeout,
                poll_interval=self.poll_interval,
                due=submitted_at + FIRST_LOOK_INTERVALS * self.poll_interval,
            ),
            method_name="execute_complete",
            kwargs=self.kwargs_to_resume,
        )

    def _wait(self, veo_task_id: str, submitted_at: float) -> VideoTask:
        self.log.info("Waiting for video %s, at most %.0f s", veo_task_id, self.timeout)
        return self.hook.wait_for_video(veo_task_id, self.poll_interval, self.timeout, started=submitted_at)

    def _asked_for(self, request: Mapping[str, Any], submitted: Submitted) -> dict[str, Any]:
        model = submitted.video.model if coerce.is_nothing(request["model"]) else request["model"]
        at = datetime.fromtimestamp(submitted.at, tz=timezone.utc)
        return {
            "model": model,
            "prompt": request["prompt"],
            "images": [shortened(str(image), _IMAGE_CHARACTERS_PUSHED) for image in request.get("images") or ()],
            "aspect_ratio": request["aspect_ratio"],
            "submitted_at": at.isoformat(timespec="seconds"),
            "cost": 0.0 if self._is_attaching else self.hook.settings.prices.get(model or ""),
        }

    def _push(self, context: Context, veo_video: dict[str, Any]) -> None:
        ti = context["ti"]
        ti.xcom_push(key="veo_video", value=veo_video)
        VideoLink.persist(context, veo_video)
        if self.do_xcom_push:
            ti.xcom_push(key="return_value", value=veo_video["id"])

    def _pushed(self, context: Context) -> dict[str, Any] | None:
        ti = context["ti"]
        return ti.xcom_pull(task_ids=self.task_id, key="veo_video", map_indexes=ti.map_index)

    def _finish(self, context: Context, veo_video: dict[str, Any]) -> str:
        self._push(context, veo_video)
        context["ti"].xcom_push(key="video_url", value=veo_video["video_url"])
        self.log.info("Video %s is there: %s", veo_video["id"], veo_video["video_url"])
        if not coerce.is_nothing(self.download_to):
            self._download(context, veo_video)
        return veo_video["id"]

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
        for name in ("poll_interval", "timeout"):
            mistakes += number_mistakes(name, getattr(self, name))
        self.refuse(mistakes)

    def _download_mistakes(self) -> list[str]:
        if self.wait_for_completion or coerce.is_nothing(self.download_to):
            return []
        return ["download_to: there is a file to store only after waiting: set wait_for_completion=True"]

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
