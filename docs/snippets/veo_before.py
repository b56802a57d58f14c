"""Before: the relay's API with HttpOperator and HttpSensor."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import requests
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import dag, task

JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@dag(schedule="0 2 * * *", start_date=datetime(2026, 1, 1), catchup=False)
def veo_before():
    create = HttpOperator(
        task_id="create",
        http_conn_id="relay",  # its extra: {"Authorization": "Bearer YOUR_API_KEY"}
        endpoint="v1/video/create",
        headers=JSON,
        data=json.dumps(
            {
                "model": "veo3-fast",
                "prompt": "A paper boat at dawn, {{ ds }}",
                "aspect_ratio": "16:9",
                "enhance_prompt": True,
                "enable_upsample": False,
            }
        ),
        response_filter=lambda response: response.json()["id"],
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
    wait = HttpSensor(
        task_id="wait",
        http_conn_id="relay",
        endpoint="v1/video/query",
        headers=JSON,
        request_params={"id": create.output},
        response_check=lambda response: response.json()["status"] == "completed",
        poke_interval=15,
        timeout=3600,
        mode="reschedule",
    )
    query = HttpOperator(
        task_id="query",
        http_conn_id="relay",
        endpoint="v1/video/query",
        method="GET",
        headers=JSON,
        data={"id": create.output},
        response_filter=lambda response: response.json()["video_url"],
    )

    @task
    def store(url: str, veo_task_id: str) -> str:
        response = requests.get(url, timeout=300)
        response.raise_for_status()
        file = Path("/tmp/veo-videos", f"{veo_task_id}.mp4")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(response.content)
        return str(file)

    wait >> query
    store(query.output, create.output)


veo_before()
