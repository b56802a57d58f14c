"""
A local relay: it speaks the protocol of a Veo relay, makes real MP4s, and fails on demand.

It is the relay of the demo, the tests and the benchmarks. It imports nothing of the rest of the project, so that a
mistake in the project's own reading of the protocol is caught and not mirrored.

.. code-block:: python

    from airflow_provider_veo import sandbox

    with sandbox.running(generation_seconds=0, faults=["drop-after@1"]) as relay:
        os.environ["AIRFLOW_CONN_VEO_DEFAULT"] = relay.connection
        ...
        assert relay.stats()["paid_twice"] == {}

Importing this package loads the standard library only: the server's own dependencies load in the server's process.
"""

from __future__ import annotations

from airflow_provider_veo.sandbox.process import Sandbox, SandboxError, running

__all__ = ["Sandbox", "SandboxError", "running"]
