"""The DAGs that users copy, and what they need to run as they are."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING

from packaging.version import Version

from tests.system.conftest import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_veo.sandbox import Sandbox

EXAMPLES = PROJECT / "dags_examples"
ALONE = sorted(
    {path.stem for path in EXAMPLES.glob("*.py")}
    - {"veo_approval", "veo_files_in_s3", "veo_morning_report", "veo_review"}
)
"""
The others wait for a person, and start another DAG: test_announcements.py runs them. test_morning.py runs the one that
sends a report, and test_review.py the one in which a person chooses.
"""
HAS_NOTIFIERS = Version(version("apache-airflow-providers-http")) >= Version("5.5")
"""The lowest versions of all dependencies don't allow a newer HTTP provider, and an older one has no notifier."""
NIGHT = datetime(2026, 11, 22, tzinfo=timezone.utc)
PRICES = {"veo3-fast": 0.4, "veo3.1-fast": 0.4, "veo3.1-components": 0.6, "veo3-pro-frames": 2, "veo2-fast-frames": 0.3}
"""The nightly example has a budget, which needs them."""
OFTEN = """
def task_policy(task):
    if hasattr(task, "poll_interval"):
        task.poll_interval = {poll_interval}
    elif "shards" in getattr(task, "partial_kwargs", ()):
        task.partial_kwargs["poll_interval"] = {poll_interval}
"""
"""For the sandbox, whose videos are ready at once: a cluster policy, so that the examples run as they are."""


def poll_often(home: Path, poll_interval: float = 0.5) -> None:
    """Put the cluster policy into an Airflow home."""
    (home / "config").mkdir(parents=True, exist_ok=True)
    (home / "config" / "airflow_local_settings.py").write_text(OFTEN.format(poll_interval=poll_interval))


def settings_of(home: Path, relay: Sandbox, poll_interval: float) -> dict[str, str]:
    """Put the cluster policy into an Airflow home, and return the environment: connection, prices and destination."""
    poll_often(home, poll_interval)
    return {
        "AIRFLOW_CONN_VEO_DEFAULT": json.dumps({**json.loads(relay.connection), "extra": {"prices": PRICES}}),
        "AIRFLOW_VAR_VEO_DESTINATION": f"{home.as_uri()}/videos/",
    }
