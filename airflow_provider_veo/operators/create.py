"""Submit one video, and push its id to XCom.

A submit is paid for. It is never sent again here: a try that may have paid, and a wait that ends badly after it, fail
the task for good, so that Airflow's retries don't pay a second time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, BaseOperator, conf

from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoError,
    VeoGenerationFailedError,
    VeoValidationError,
    coerce,
)
from airflow_provider_veo.protocol.errors import from_dict
from airflow_provider_veo.protocol.waiting import FIRST_LOOK_INTERVALS, raise_if_failed

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_veo.hooks import VeoHook
    from airflow_provider_veo.protocol import VideoTask

_REQUEST_FIELDS = (
    "prompt",
    "model",
    "images",
    "aspect_ratio",
    "enhance_prompt",
    "enable_upsample",
    "extra_body",
)
_ASKED_FOR = ("model", "prompt", "images", "aspect_ratio")
_PROMPT_CHARACTERS_LOGGED = 120
_IMAGE_CHARACTERS_PUSHED = 2048
"""An image may be a ``data:`` URI of megabytes: the metadata database is no place for it."""


class VeoCreateVideoOperator(BaseOperator):
    """
    Submit a video to Veo, and return the id that the relay gave.

    XComs: ``return_value``, the id, always a string; ``veo_video``, a dict of the
    :class:`~airflow_provider_veo.protocol.VideoTask` with the request's model, prompt, images and aspect ratio; after
    waiting also ``video_url``. Id and ``veo_video`` are there as soon as the relay has accepted the video, also when
    the wait fails.

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
    :param timeout: seconds to wait, from the submission.
    :param durable: remember the submission across tries. In this release a submission is remembered within its try
        only; a worker that dies between the submission and the end of the task is not protected.
    :param on_ambiguous_submit: what to do when it can't be known whether a request was accepted: ``"fail"`` for good,
        or ``"resubmit"``: let Airflow's retries submit it again, which may pay twice.
    :param existing_veo_task_id: attach to this video instead of paying for one (templated).
    """

    template_fields: Sequence[str] = (*_REQUEST_FIELDS, "veo_conn_id", "existing_veo_task_id")
    template_ext: Sequence[str] = (".prompt", ".j2")
    template_fields_renderers = {"images": "json", "extra_body": "json"}  # noqa: RUF012  as Airflow declares it
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
        self._veo_task_id: str | None = None
        if not getattr(self, "_BaseOperator__from_mapped", False):
            # A mapped task is made anew in the worker, of values that were rendered: execute checks those.
            self._fail_on_mistakes_in_the_dag_file()

    @cached_property
    def hook(self) -> VeoHook:
        """The hook to the relay."""
        from airflow_provider_veo.hooks import VeoHook

        return VeoHook(self.veo_conn_id)

    def execute(self, context: Context) -> str:
        """Submit the video, or attach to the one that is given; wait for it if asked to."""
        try:
            request, video = self._attach() if self._is_attaching else self._submit()
            started = time.time()
            self._veo_task_id = video.id
            with self._submitted():
                asked_for = self._asked_for(request, video)
                self._push(context, {**video.to_dict(), **asked_for})
                raise_if_failed(video)
                if not self.wait_for_completion:
                    return video.id
                if self.deferrable and not (video.state == "succeeded" and video.video_url):
                    self._defer(video.id, started)
                ready = self._wait(video.id, started)
                return self._finish(context, {**ready.to_dict(), **asked_for})
        except VeoError as error:
            if self._may_be_tried_again(error):
                raise
            raise AirflowFailException(str(error)) from error
        finally:
            self.hook.close()

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Go on where the trigger ended: with the video, or with the reason why there is none."""
        if "error" in event:
            raise from_dict(event["error"])
        submitted = self._pushed(context) or {}
        asked_for = {name: submitted[name] for name in _ASKED_FOR if name in submitted}
        return self._finish(context, {**event["video"], **asked_for})

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's own; but what goes wrong after a submit, in Airflow too, must not become another submit."""
        with self._submitted():
            self._veo_task_id = (self._pushed(context) or {}).get("id")
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Say what goes on being billed: the API has no way to cancel a video."""
        if self._veo_task_id:
            self.log.warning(
                "This task was killed. Video %s goes on being generated, and is billed: the API has no cancel. "
                "Attach to it with existing_veo_task_id=%r.",
                self._veo_task_id,
                self._veo_task_id,
            )

    @property
    def _is_attaching(self) -> bool:
        return not coerce.is_nothing(self.existing_veo_task_id)

    def _request(self) -> dict[str, Any]:
        from airflow_provider_veo.protocol import payload

        fields = {name: getattr(self, name) for name in _REQUEST_FIELDS}
        settings = self.hook.settings
        if coerce.is_nothing(fields["model"]):
            fields["model"] = settings.default_model
        return payload.build(**fields, catalog=settings.catalog)

    def _submit(self) -> tuple[dict[str, Any], VideoTask]:
        request = self._request()
        self.log.info(
            "Submitting a video to %s: model %s, %d images, aspect ratio %s, prompt %r",
            self.hook.settings.base_url,
            request["model"],
            len(request.get("images", ())),
            request["aspect_ratio"],
            _shortened(request["prompt"], _PROMPT_CHARACTERS_LOGGED),
        )
        video = self.hook.create_video(request)
        self.log.info("Accepted: video %s, status %s", video.id, video.status)
        return request, video

    def _attach(self) -> tuple[dict[str, Any], VideoTask]:
        veo_task_id = str(self.existing_veo_task_id)
        self.log.info("Attaching to video %s: nothing is submitted, nothing is paid", veo_task_id)
        video = self.hook.get_video(veo_task_id)
        self.log.info("Video %s: %s", video.id, video.status)
        # What the task would have asked for, as far as it can be told: nothing of it is sent.
        images = coerce.images(self.images)
        asked_for = {name: coerce.text(getattr(self, name)) for name in ("model", "prompt", "aspect_ratio")}
        return {**asked_for, "images": images if isinstance(images, list) else []}, video

    @contextmanager
    def _submitted(self) -> Iterator[None]:
        """
        Fail the task for good, whatever goes wrong in here: another try would submit, and pay, again.

        Two exceptions: a failed generation, which retries are asked for, and a task that only attached.
        """
        try:
            yield
        except (AirflowFailException, VeoGenerationFailedError):
            raise
        except (Exception, AirflowTaskTimeout) as error:
            if self._is_attaching and not getattr(error, "final", False):
                raise
            text = str(error) if isinstance(error, VeoError) else f"{type(error).__name__}: {error}"
            video = (
                f"Video {self._veo_task_id}" if self._veo_task_id else "The video (its id is in this try's first log)"
            )
            text += f"\n{video} is submitted and billed, so this task is not tried again."
            attach = f"existing_veo_task_id={self._veo_task_id!r}"
            raise AirflowFailException(text if attach in text else f"{text} To go on with it, set {attach}.") from error

    def _defer(self, veo_task_id: str, started: float) -> None:
        from airflow_provider_veo.triggers import VeoVideoTrigger

        self.log.info("Waiting for video %s without a worker, at most %.0f s", veo_task_id, self.timeout)
        self.defer(
            trigger=VeoVideoTrigger(
                veo_task_id=veo_task_id,
                veo_conn_id=self.veo_conn_id,
                started=started,
                timeout=self.timeout,
                poll_interval=self.poll_interval,
                due=started + FIRST_LOOK_INTERVALS * self.poll_interval,
            ),
            method_name="execute_complete",
        )

    def _wait(self, veo_task_id: str, started: float) -> VideoTask:
        self.log.info("Waiting for video %s, at most %.0f s", veo_task_id, self.timeout)
        return self.hook.wait_for_video(veo_task_id, self.poll_interval, self.timeout, started=started)

    def _asked_for(self, request: Mapping[str, Any], video: VideoTask) -> dict[str, Any]:
        return {
            "model": video.model if coerce.is_nothing(request["model"]) else request["model"],
            "prompt": request["prompt"],
            "images": [_shortened(str(image), _IMAGE_CHARACTERS_PUSHED) for image in request.get("images") or ()],
            "aspect_ratio": request["aspect_ratio"],
        }

    def _push(self, context: Context, veo_video: dict[str, Any]) -> None:
        ti = context["ti"]
        ti.xcom_push(key="veo_video", value=veo_video)
        if self.do_xcom_push:
            ti.xcom_push(key="return_value", value=veo_video["id"])

    def _pushed(self, context: Context) -> dict[str, Any] | None:
        ti = context["ti"]
        return ti.xcom_pull(task_ids=self.task_id, key="veo_video", map_indexes=ti.map_index)

    def _finish(self, context: Context, veo_video: dict[str, Any]) -> str:
        self._push(context, veo_video)
        context["ti"].xcom_push(key="video_url", value=veo_video["video_url"])
        self.log.info("Video %s is there: %s", veo_video["id"], veo_video["video_url"])
        return veo_video["id"]

    def _may_be_tried_again(self, error: VeoError) -> bool:
        if isinstance(error, VeoAmbiguousSubmitError) and self.on_ambiguous_submit == "resubmit":
            self.log.warning(
                "on_ambiguous_submit is 'resubmit': the next try submits this video again, and may pay for it twice"
            )
            return True
        return not error.final

    def _fail_on_mistakes_in_the_dag_file(self) -> None:
        from airflow_provider_veo.protocol import payload

        literals = {name: value for name in _REQUEST_FIELDS if self._is_literal(value := getattr(self, name))}
        mistakes = payload.literal_mistakes(literals)
        if self.on_ambiguous_submit not in ("fail", "resubmit"):
            mistakes.append(f"on_ambiguous_submit: expected 'fail' or 'resubmit', got {self.on_ambiguous_submit!r}")
        for name in ("poll_interval", "timeout"):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
                mistakes.append(f"{name}: expected a number of seconds above 0, got {seconds!r}")
        if mistakes:
            raise VeoValidationError(f"The arguments of task {self.task_id!r} are not valid.", mistakes)

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


def _shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}… ({len(text)} characters)"
