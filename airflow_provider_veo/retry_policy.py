"""When Airflow retries a task that failed with a :class:`~airflow_provider_veo.protocol.VeoError`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_veo.protocol import VeoError

if not AIRFLOW_V_3_3_PLUS:
    raise ImportError(
        "airflow_provider_veo.retry_policy needs Airflow 3.3 or later. On earlier versions leave out retry_policy: the "
        "Veo operators themselves fail at once if no retry can help."
    )

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def veo_retry_policy() -> VeoRetryPolicy:
    """
    Return a retry policy for tasks that talk to a Veo relay.

    ``VeoCreateVideoOperator(…, retries=5, retry_policy=veo_retry_policy())``, or for a ``@task`` that uses a hook.

    - If the relay sent a ``Retry-After``, the next try starts after that instead of ``retry_delay``.
    - An error that no retry can fix (a bad key, an empty balance, a rejected request) fails the task at once. The
      operators do that anyway; your own tasks need the policy for it.
    - Everything else is left to ``retries`` and ``retry_delay``.
    """
    return VeoRetryPolicy()


class VeoRetryPolicy(RetryPolicy):
    """See :func:`veo_retry_policy`. It has no settings, so all instances are equal."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by the error's ``final`` and ``retry_after``."""
        if not isinstance(exception, VeoError):
            return RetryDecision.default()
        kind = type(exception).__name__
        if exception.final:
            return RetryDecision.fail(reason=f"{kind}: no retry can fix it")
        if exception.retry_after is not None:
            asked_for = timedelta(seconds=max(0.0, exception.retry_after))
            return RetryDecision.retry(delay=asked_for, reason=f"{kind}: the relay asked to wait {asked_for}")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return the policy as a JSON object."""
        return {"__type": f"{type(self).__module__}.{type(self).__qualname__}"}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> VeoRetryPolicy:
        """Restore a policy from :meth:`serialize`."""
        return cls()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))
