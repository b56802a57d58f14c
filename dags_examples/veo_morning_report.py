"""A batch every night, and in the morning its report: as an e-mail, and as a message to the webhook of a chat.

Airflow's own notifiers send both when the task has ended, whether it succeeded or failed. The e-mail has the report
attached, wherever the results are stored. If the task failed before it had results, both contain the error.

::

    pip install apache-airflow-providers-smtp 'apache-airflow-providers-http>=5.5'

Two Airflow connections are needed: ``smtp_default``, the mail server, with the sender as ``from_email`` in its extra;
and ``veo_webhook`` of type HTTP, whose host is the URL of the webhook. The Airflow variable ``veo_report_to`` is the
address of the e-mail, and ``veo_destination`` the place of videos and results, e.g.
``s3://aws_default@my-bucket/videos``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow.providers.common.compat.sdk import ObjectStoragePath, dag
from airflow.providers.http.notifications.http import HttpNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from airflow_provider_veo.operators import VeoVideoBatchOperator

DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
ROOT = "{{ var.value.get('veo_destination', 'file:///tmp/veo-videos').rstrip('/') }}/veo_morning_report/"
FOLDER = ROOT + DATE + "/{{ run_id }}"

# Five lines of plain text. A task that failed before it had results has only an error. It may contain what the relay
# said, which must not notify everybody.
MESSAGE = """{{ (ti.xcom_pull(task_ids=ti.task_id, key='summary_text')
                 or ti.dag_id ~ ' failed: ' ~ (exception | string | truncate(1000)))
                | replace('@', '@\u200b') | replace('<', '‹') | replace('](', '] (') }}"""


def chat(context) -> None:
    """Send the message. A notifier is used once: it replaces its templates by what they became."""
    # Chats that expect another document: Discord {"content": MESSAGE}, Feishu and DingTalk {"msg_type": "text", …}.
    send = HttpNotifier(http_conn_id="veo_webhook", json={"text": MESSAGE})
    send(context)


def email(context) -> None:
    """Send the report as an attachment. The notifier attaches local files, so it is copied from the storage first."""
    ti = context["ti"]
    report = ObjectStoragePath(ti.task.render_template(FOLDER, context)) / "report.html"
    # Compared, not used: whoever may edit XComs would choose which file is sent.
    has_report = ti.xcom_pull(task_ids=ti.task_id, key="report_path") == str(report)
    with TemporaryDirectory() as folder:
        files = []
        if has_report:
            copy = Path(folder, "report.html")
            copy.write_bytes(report.read_bytes())
            files.append(str(copy))
        send = SmtpNotifier(
            to="{{ var.value.get('veo_report_to', 'videos@example.com') }}",
            subject="{{ ti.dag_id }}: the videos of " + DATE,
            html_content="<pre>" + MESSAGE.replace(" }}", " | e }}") + "</pre>",
            files=files,
        )
        send(context)


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # otherwise all nights since the start date would be run and billed
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["veo"],
)
def veo_morning_report():
    VeoVideoBatchOperator(
        task_id="make_videos",
        jobs=[
            {"key": "boat", "prompt": "A paper boat drifts down a canal at dawn, slow dolly shot"},
            {"key": "keeper", "prompt": "A lighthouse keeper waves to the night train", "aspect_ratio": "9:16"},
            {"key": "cow", "prompt": "牛飞上天了，慢动作"},
        ],
        model="veo3-fast",
        result_path=FOLDER,
        deferrable=True,
        on_success_callback=[chat, email],
        on_failure_callback=[chat, email],  # after the last try
    )


veo_morning_report()
