"""
A local relay that speaks the Veo relay protocol, makes real MP4s, and fails on demand.

The demo, the tests and the benchmarks run against it. It imports nothing from the rest of the project, so that it
catches a misreading of the protocol instead of repeating it.

.. code-block:: python

    from airflow_provider_veo import sandbox

    with sandbox.running(generation_seconds=0, faults=["drop-after@1"]) as relay:
        os.environ["AIRFLOW_CONN_VEO_DEFAULT"] = relay.connection
        ...
        assert relay.stats()["paid_twice"] == {}

Importing this package loads only the standard library. The server's dependencies load in the server process.
"""

from __future__ import annotations

from airflow_provider_veo.sandbox.process import Sandbox, SandboxError, running

__all__ = ["Sandbox", "SandboxError", "running"]
