"""Every way to wait for a video, and every way for a wait to end. The relay's faults are chosen by the prompts."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, TriggerRule, task

from airflow_provider_veo.operators import VeoCreateVideoOperator
from airflow_provider_veo.sensors import VeoVideoSensor

QUICK = {"poll_interval": 0.3}


def create(name: str, **arguments) -> VeoCreateVideoOperator:
    return VeoCreateVideoOperator(task_id=f"create_{name}", prompt=f"waits {name}", model="veo3", **arguments)


def sensor(name: str, veo_task_id, **arguments) -> VeoVideoSensor:
    return VeoVideoSensor(task_id=name, veo_task_id=veo_task_id, **{**QUICK, **arguments})


with DAG(
    "veo_waits",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    default_args={"retries": 1, "retry_delay": timedelta(0)},
):
    waiting = {"wait_for_completion": True, "deferrable": True, **QUICK}
    deferred = create("deferred", **waiting)
    ends = [
        create("attached", existing_veo_task_id=deferred.output, **waiting),
        create("generation_fails", **waiting),
        create("never_ready", timeout=1, **waiting),
    ]

    @task
    def both(one: str, another: str) -> list[str]:
        return [one, another]

    video = create("video")
    ends += [
        sensor("pokes", video.output, deferrable=False),
        sensor("reschedules", video.output, deferrable=False, mode="reschedule"),
        sensor("defers", video.output, deferrable=True),
        sensor("takes_the_dict", video.output["veo_video"], deferrable=True),
        takes_a_template := sensor("takes_a_template", "{{ ti.xcom_pull('create_video') }}", deferrable=True),
        sensor("is_already_there", deferred.output, deferrable=True),
        VeoVideoSensor.partial(task_id="mapped", deferrable=True, start_from_trigger=True, **QUICK).expand(
            veo_task_id=both(video.output, deferred.output)
        ),
    ]

    video >> takes_a_template

    blocked = create("blocked")
    stuck = create("stuck")
    for mode, arguments in {
        "poke": {"deferrable": False},
        "reschedule": {"deferrable": False, "mode": "reschedule"},
        "deferrable": {"deferrable": True},
    }.items():
        ends += [
            sensor(f"{mode}_fails", blocked.output, **arguments),
            sensor(f"{mode}_fails_softly", blocked.output, soft_fail=True, **arguments),
            sensor(f"{mode}_times_out", stuck.output, timeout=1, **arguments),
            sensor(f"{mode}_times_out_softly", stuck.output, timeout=1, soft_fail=True, **arguments),
            sensor(f"{mode}_unknown", "veo3:1-unknown", veo_conn_id="veo_wrong_key", **arguments),
        ]

    @task.veo_video(model="veo3")
    def returns_a_prompt(name: str) -> str:
        return f"waits {name} {{{{ ds }}}}"

    @task.veo_video(model="veo3", **waiting)
    def returns_fields(ds: str) -> dict:
        return {"prompt": f"waits decorated fields {ds}", "model": "veo3.1", "aspect_ratio": "9:16"}

    @task.veo_video
    def returns_nonsense() -> dict:
        return {"propmt": "waits nonsense", "colour": 7}

    ends += [returns_a_prompt("decorated"), returns_fields(), returns_nonsense()]
    ends += [returns_a_prompt.override(task_id="decorated_mapped").expand(name=["mapped 1", "mapped 2"])]

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def the_end() -> None:
        pass

    ends >> the_end()
