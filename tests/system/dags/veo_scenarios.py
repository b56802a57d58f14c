"""Every way to give the create operator its arguments, and every way for it to end, as tasks of two DAGs.

The relay's faults are chosen by words in the prompts.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, TriggerRule, task

from airflow_provider_veo.operators import VeoCreateVideoOperator

IMAGES = ["https://example.com/a.png", "https://example.com/b.png"]


def fields(prefix: str) -> dict:
    return {
        "prompt": f"{prefix}, all fields",
        "model": "veo3.1-components",
        "images": IMAGES,
        "aspect_ratio": "9:16",
        "enhance_prompt": "False",
        "enable_upsample": True,
        "extra_body": {"seed": 7},
        "veo_conn_id": "veo_default",
        "existing_veo_task_id": None,
    }


def scenarios(dag_id: str, *, native: bool) -> DAG:
    with DAG(
        dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        render_template_as_native_obj=native,
        default_args={"retries": 1, "retry_delay": timedelta(0)},
        params={"upsample": "no"},
    ) as dag:

        @task
        def values() -> dict:
            return fields(f"{dag_id} xcomargs")

        @task
        def rows() -> list[dict]:
            return [{"prompt": f"{dag_id} row {n}", "model": model} for n, model in enumerate(("veo3", "veo3-fast"))]

        given = values()
        VeoCreateVideoOperator(task_id="xcomargs", **{name: given[name] for name in fields("")})
        VeoCreateVideoOperator(
            task_id="templates",
            prompt=dag_id + " templates {{ ds }}",
            model="{{ 'veo3.1' }}-components",
            images="{{ ti.xcom_pull(task_ids='values')['images'] }}",
            aspect_ratio="{{ '9:16' }}",
            enhance_prompt="{{ false }}",
            enable_upsample="{{ params.upsample }}",
            extra_body="{{ {'seed': 7} }}",
            veo_conn_id="veo_{{ 'default' }}",
            existing_veo_task_id="{{ none }}",
        ).set_upstream(given)
        VeoCreateVideoOperator(task_id="defaults", prompt=f"{dag_id} defaults", veo_conn_id="veo_with_default_model")
        VeoCreateVideoOperator(task_id="file", prompt="scenario.prompt", model="veo3")
        VeoCreateVideoOperator(task_id="number", prompt="1984", model="veo3")
        VeoCreateVideoOperator.partial(task_id="expand", model="veo3").expand(
            prompt=[f"{dag_id} expand {{{{ ds }}}} {n}" for n in range(2)]
        )
        VeoCreateVideoOperator.partial(task_id="expand_kwargs").expand_kwargs(rows())

        waits = VeoCreateVideoOperator(
            task_id="waits", prompt=f"{dag_id} waits", model="veo3", wait_for_completion=True, poll_interval=0.2
        )
        VeoCreateVideoOperator(
            task_id="attaches",
            prompt=f"{dag_id} attaches",
            model="veo3",
            existing_veo_task_id=waits.output,
            wait_for_completion=True,
        )

        def failing(task_id: str, **arguments) -> VeoCreateVideoOperator:
            return VeoCreateVideoOperator(
                task_id=task_id, **{"prompt": f"{dag_id} {task_id}", "model": "veo3", "poll_interval": 0.2, **arguments}
            )

        ends = [
            failing("refused"),
            failing("answer_lost"),
            failing("resubmitted", on_ambiguous_submit="resubmit"),
            failing("rate_limited"),
            failing("invalid", images="{{ ['./cow.png'] }}", aspect_ratio="{{ '4:3' }}"),
            failing("generation_fails", wait_for_completion=True),
            failing("never_ready", wait_for_completion=True, timeout=1),
            failing("wrong_key", veo_conn_id="veo_wrong_key"),
            failing("echoes_key"),
            failing("no_connection", veo_conn_id="veo_missing"),
        ]

        @task(trigger_rule=TriggerRule.ALL_DONE)
        def the_end() -> None:
            pass

        ends >> the_end()
    return dag


veo_text = scenarios("veo_text", native=False)
veo_native = scenarios("veo_native", native=True)
