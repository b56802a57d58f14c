"""
``python -m tests.distributed.on_postgresql COMMAND``: run a command whose Airflows have their databases on PostgreSQL.

SQLite lets one process write at a time, and Airflow's services give up when it takes too long. That is a fact of SQLite
on a busy machine, which no deployment has: production runs on a server.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.distributed.servers import PostgreSQL
from tests.system.databases import SERVER

if __name__ == "__main__":
    with PostgreSQL("postgresql") as server:
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, SERVER: server.url}, check=False).returncode)
