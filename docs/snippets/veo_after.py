"""After: the same with this provider."""

from datetime import datetime, timedelta

from airflow.sdk import dag

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator
from airflow_provider_veo.sensors import VeoVideoSensor


@dag(schedule="0 2 * * *", start_date=datetime(2026, 1, 1), catchup=False)
def veo_after():
    create = VeoCreateVideoOperator(
        task_id="create",
        prompt="A paper boat at dawn, {{ ds }}",
        model="veo3-fast",
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
    wait = VeoVideoSensor(task_id="wait", veo_task_id=create.output, deferrable=True)
    VeoDownloadVideoOperator(task_id="store", veo_video=wait.output, destination="file:///tmp/veo-videos/")


veo_after()
