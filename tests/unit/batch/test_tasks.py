"""What the tasks of a batch wait for."""

from __future__ import annotations

import asyncio

from airflow_provider_veo.batch.tasks import Tasks


def test_a_kill_right_after_the_check_for_one_ends_the_wait():
    async def wait():
        tasks, loop = Tasks(), asyncio.get_running_loop()
        checks = []

        def is_over():
            if not checks:
                loop.call_soon(tasks.kill, KeyboardInterrupt("before anything else that is about to run"))
            checks.append(tasks.killed)
            return tasks.killed is not None

        return await asyncio.wait_for(tasks.unless(is_over, asyncio.sleep(600)), 30)

    assert asyncio.run(wait()) is None


def test_a_result_is_returned_if_nothing_ends_the_wait():
    async def wait():
        tasks = Tasks()

        async def work():
            for _ in range(3):
                await asyncio.sleep(0)
                tasks.note_change()
            return "done"

        return await tasks.unless(lambda: False, work())

    assert asyncio.run(wait()) == "done"
