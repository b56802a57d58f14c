"""How a task with a batch ends: what it logs, and the error with which it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_veo.protocol import VeoDownloadError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_veo.batch.results import Results
    from airflow_provider_veo.log import Log
    from airflow_provider_veo.protocol import VeoError


def log_results(log: Log, results: Results, short: Mapping[str, Any]) -> None:
    """Log the summary, why jobs did not succeed, and the videos of jobs that are no longer in the input."""
    log.info("%s", ", ".join(f"{name} {value}" for name, value in short.items()))
    for reason in results.reasons():
        log.warning("%s", reason)
    for record in results.orphans:
        log.warning("Video %s was accepted for job %s, which is no longer in the input", record.veo_task_id, record.key)


def failure_of(results: Results, short: Mapping[str, Any], stopped: VeoError | None) -> Exception:
    """Return the error to fail with: one that Airflow retries only if another try may fix it."""
    reasons = "\n".join(f"  - {reason}" for reason in results.reasons())
    text = f"{short['succeeded']} of {short['total']} jobs succeeded. Result of each: {short['results']}\n{reasons}"
    if stopped is not None:
        return stopped.adding(text)
    if short["not_stored"]:
        return VeoDownloadError(f"{text}\nThe next try stores the files that are missing.")
    if error := results.error_for_now:
        return error.adding(f"{text}\nThe next try submits the jobs that were not submitted.")
    return AirflowFailException(text)
