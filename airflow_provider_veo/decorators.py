"""``@task.veo_video`` and ``@task.veo_video_batch``: a function says what to make, the operator makes it."""

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
"""What a task that goes on doesn't read again: it is submitted."""


class _Described(DecoratedOperator):
    """
    An operator whose fields are what a function returns: one of them, or a dict of them.

    That is taken as it is: it is Python already, and is not rendered as a template once more.

    :param python_callable: the function.
    :param op_args: positional arguments for it (templated).
    :param op_kwargs: keyword arguments for it (templated).
    """

    described: str
    """The field that a result is which is no dict; a dict must have it."""
    described_as: str
    """What that is, for people."""
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
        kwargs.pop("multiple_outputs", None)  # the result is one
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            multiple_outputs=False,
            **{self.described: SET_DURING_EXECUTION},
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Poll the function what to make, and make it."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        self._set(self.python_callable(*self.op_args, **kwargs))
        # Not by super(): what is between in Airflow 3.0 needs a method that only Python's own operator has there.
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
            title = f"What {self.python_callable.__name__} returned can't be made. Nothing was sent, nothing is paid."
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
    """Make the videos that a function lists."""

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


def veo_video_batch_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a task of a function that lists the videos to make: ``@task.veo_video_batch(result_path="s3://…/{{ ds }}")``.

    The function returns a list of jobs, each a prompt or a dict, or a dict of fields with ``jobs``: ``result_path``,
    ``model``, ``aspect_ratio``, ``max_videos``, ``max_cost`` …. The task's result is the batch's: where the results
    are, counts, cost. A try that goes on after a wait doesn't call the function again.

    :param python_callable: the function.
    :param kwargs: arguments of :class:`~airflow_provider_veo.operators.VeoVideoBatchOperator`, for all that the
        function leaves out.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_VeoVideoBatchDecoratedOperator, **kwargs
    )
