from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, overload

from airflow.providers.common.compat.sdk import TaskDecorator

@overload
def veo_video_task(python_callable: Callable[..., str | Mapping[str, Any]]) -> TaskDecorator: ...
@overload
def veo_video_task(
    *,
    task_id: str = ...,
    model: str | None = None,
    images: Sequence[str] | str | None = None,
    aspect_ratio: Literal["16:9", "9:16"] | str = "16:9",
    enhance_prompt: bool | str = True,
    enable_upsample: bool | str = False,
    extra_body: Mapping[str, Any] | str | None = None,
    veo_conn_id: str = "veo_default",
    wait_for_completion: bool = False,
    deferrable: bool = ...,
    poll_interval: float = 15,
    timeout: float = 3600,
    durable: bool = True,
    on_ambiguous_submit: Literal["fail", "resubmit"] = "fail",
    on_cleared: Literal["submit", "fail"] | None = None,
    existing_veo_task_id: str | None = None,
    retries: int | None = ...,
    retry_delay: timedelta | float = ...,
    **kwargs: Any,
) -> TaskDecorator: ...
