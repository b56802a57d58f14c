"""``@task.veo_video``: a function says what to make, the operator makes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    SET_DURING_EXECUTION,
    AirflowFailException,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_veo.operators import VeoCreateVideoOperator
from airflow_provider_veo.protocol import VeoValidationError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator


class _VeoVideoDecoratedOperator(DecoratedOperator, VeoCreateVideoOperator):
    """
    Submit the video that a function describes.

    What the function returns is taken as it is: it is Python already, and is not rendered as a template once more.

    :param python_callable: returns a prompt, or a dict of the operator's templated fields.
    :param op_args: positional arguments for it (templated).
    :param op_kwargs: keyword arguments for it (templated).
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *VeoCreateVideoOperator.template_fields)
    template_fields_renderers = {  # noqa: RUF012  as Airflow declares it
        **DecoratedOperator.template_fields_renderers,
        **VeoCreateVideoOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.veo_video"
    overwrite_rtif_after_execution = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("multiple_outputs", None)  # the result is one id
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            multiple_outputs=False,
            prompt=SET_DURING_EXECUTION,
            **kwargs,
        )

    def execute(self, context: Context) -> str:
        """Ask the function what to make, and make it."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        self._set(self.python_callable(*self.op_args, **kwargs))
        return super().execute(context)

    def _set(self, described: Any) -> None:
        fields = {"prompt": described} if isinstance(described, str) else described
        allowed = VeoCreateVideoOperator.template_fields
        if not isinstance(fields, Mapping):
            mistakes = [f"expected a prompt, or a dict of fields, got {described!r:.200}"]
        else:
            mistakes = [
                f"unknown field {name!r}, expected {', '.join(allowed)}" for name in fields if name not in allowed
            ]
            mistakes += [] if "prompt" in fields else ["the dict has no prompt"]
        if mistakes:
            title = f"What {self.python_callable.__name__} returned is not a video. Nothing was sent, nothing is paid."
            raise AirflowFailException(str(VeoValidationError(title, mistakes)))
        for name, value in fields.items():
            setattr(self, name, value)


def veo_video_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a task of a function that says what video to make: ``@task.veo_video(model="veo3-fast")``.

    The function returns a prompt, or a dict of fields: ``prompt``, ``model``, ``images``, ``aspect_ratio``,
    ``enhance_prompt``, ``enable_upsample``, ``extra_body``, ``veo_conn_id``, ``existing_veo_task_id``. The task's
    result is the id that the relay gave.

    :param python_callable: the function.
    :param kwargs: arguments of :class:`~airflow_provider_veo.operators.VeoCreateVideoOperator`, for all that the
        function leaves out.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_VeoVideoDecoratedOperator, **kwargs
    )
