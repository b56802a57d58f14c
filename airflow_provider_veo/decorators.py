"""``@task.veo_video`` and ``@task.veo_video_batch``: a function returns the arguments of an operator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseOperator,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_veo.compat import SET_DURING_EXECUTION
from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.protocol import VeoValidationError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator


_LARGE = ("prompt", "images", "jobs", "extra_body")
"""Fields that a resumed task doesn't need, because they are already submitted."""


class _Described(DecoratedOperator):
    """
    An operator whose fields are returned by a function: one of them, or a dict of them.

    The returned values are used as they are, and not rendered as templates.

    :param python_callable: the function.
    :param op_args: positional arguments for it (templated).
    :param op_kwargs: keyword arguments for it (templated).
    """

    described: str
    """The field that a result other than a dict sets. A dict must contain it."""
    described_as: str
    """What that field is, for error messages."""
    described_types: tuple[type, ...]
    operator: type[BaseOperator]
    overwrite_rtif_after_execution = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("multiple_outputs", None)  # there is one result
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            multiple_outputs=False,
            **{self.described: SET_DURING_EXECUTION},
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Call the function, and run the operator with the fields that it returns."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        self._set(self.python_callable(*self.op_args, **kwargs))
        # Not by super(): in Airflow 3.0 the class in between needs a method that only PythonOperator has.
        return self.operator.execute(self, context)

    def _set(self, given: Any) -> None:
        fields = {self.described: given} if isinstance(given, self.described_types) else given
        allowed = self.operator.template_fields
        if not isinstance(fields, Mapping):
            mistakes = [f"expected {self.described_as}, or a dict of fields, got {given!r:.200}"]
        else:
            mistakes = [
                f"unknown field {name!r}, expected {', '.join(allowed)}" for name in fields if name not in allowed
            ]
            mistakes += [] if self.described in fields else [f"the dict has no {self.described}"]
        if mistakes:
            title = f"The return value of {self.python_callable.__name__} is not valid. Nothing was sent or billed."
            raise AirflowFailException(str(VeoValidationError(title, mistakes)))
        for name, value in fields.items():
            setattr(self, name, value)
        self.returned = {name: value for name, value in fields.items() if name not in _LARGE}


class _VeoVideoDecoratedOperator(_Described, VeoCreateVideoOperator):
    """Submit the video that a function describes."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *VeoCreateVideoOperator.template_fields)
    template_fields_renderers = {  # noqa: RUF012  as Airflow declares it
        **DecoratedOperator.template_fields_renderers,
        **VeoCreateVideoOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.veo_video"
    operator = VeoCreateVideoOperator
    described = "prompt"
    described_as = "a prompt"
    described_types = (str,)


class _VeoVideoBatchDecoratedOperator(_Described, VeoVideoBatchOperator):
    """Make the videos that a function returns."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *VeoVideoBatchOperator.template_fields)
    template_fields_renderers = {  # noqa: RUF012  as Airflow declares it
        **DecoratedOperator.template_fields_renderers,
        **VeoVideoBatchOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.veo_video_batch"
    operator = VeoVideoBatchOperator
    described = "jobs"
    described_as = "a list of jobs"
    described_types = (list, tuple)


def veo_video_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Turn a function that describes a video into a task: ``@task.veo_video(model="veo3-fast")``.

    The function returns a prompt, or a dict of fields: ``prompt``, ``model``, ``images``, ``aspect_ratio``,
    ``enhance_prompt``, ``enable_upsample``, ``extra_body``, ``veo_conn_id``, ``existing_veo_task_id``. The task's
    result is the id that the relay gave.

    :param python_callable: the function.
    :param kwargs: arguments of :class:`~airflow_provider_veo.operators.VeoCreateVideoOperator` that the function
        doesn't return.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_VeoVideoDecoratedOperator, **kwargs
    )


def veo_video_batch_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Turn a function that returns jobs into a task: ``@task.veo_video_batch(result_path="s3://…/{{ ds }}")``.

    The function returns a list of jobs, each a prompt or a dict, or a dict of fields with ``jobs``: ``result_path``,
    ``model``, ``aspect_ratio``, ``max_videos``, ``max_cost`` …. The task's result is that of the batch: URIs of the
    results, counts, cost. A try that resumes after a deferral doesn't call the function again.

    :param python_callable: the function.
    :param kwargs: arguments of :class:`~airflow_provider_veo.operators.VeoVideoBatchOperator` that the function
        doesn't return.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_VeoVideoBatchDecoratedOperator, **kwargs
    )
