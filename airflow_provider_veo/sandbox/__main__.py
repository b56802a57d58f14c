"""``python -m airflow_provider_veo.sandbox`` runs ``airflow-veo-sandbox``."""

from __future__ import annotations

import sys

from airflow_provider_veo.sandbox.cli import main

if __name__ == "__main__":
    sys.exit(main())
