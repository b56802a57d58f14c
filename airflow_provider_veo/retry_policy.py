"""When Airflow tries a task again that failed with a :class:`~airflow_provider_veo.protocol.VeoError`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_veo.protocol import VeoError

if not AIRFLOW_V_3_3_PLUS:
    raise ImportError(
        "airflow_provider_veo.retry_policy needs Airflow 3.3 or newer: older ones have no retry policies. There, leave "
        "out retry_policy; the Veo operators fail for good by themselves where no retry can help."
    )

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def veo_retry_policy() -> VeoRetryPolicy:
    """
    Return a retry policy for tasks that talk to a Veo relay.

    ``VeoCreateVideoOperator(…, retries=5, retry_policy=veo_retry_policy())``, or for a ``@task`` that uses a hook.

    - A relay that asked for patience (``Retry-After``) is given it: the next try starts when it said, not after
      ``retry_delay``.
    - A failure that no retry can mend (a bad key, a spent balance, a refused request) fails the task at once. The
      operators do that by themselves; a task of your own needs the policy for it.
    - Everything else is left to ``retries`` and ``retry_delay``.
    """
    return VeoRetryPolicy()


class VeoRetryPolicy(RetryPolicy):
    """See :func:`veo_retry_policy`. It has no settings, and all of its kind are equal."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by what the error says of itself."""
        if not isinstance(exception, VeoError):
            return RetryDecision.default()
        kind = type(exception).__name__
        if exception.final:
            return RetryDecision.fail(reason=f"{kind}: no retry can mend it")
        if exception.retry_after is not None:
            asked_for = timedelta(seconds=max(0.0, exception.retry_after))
            return RetryDecision.retry(delay=asked_for, reason=f"{kind}: the relay asked to wait {asked_for}")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return the policy as JSON knows it."""
        return {"__type": f"{type(self).__module__}.{type(self).__qualname__}"}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> VeoRetryPolicy:
        """Make it again of what :meth:`serialize` returned."""
        return cls()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))
