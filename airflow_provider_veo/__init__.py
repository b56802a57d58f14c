"""Generate videos with Veo from Apache Airflow, through a relay of the "unified video format" family."""

__version__ = "0.1.0"

DOCUMENTATION = "https://airflow-provider-veo.readthedocs.io/en/stable/"
"""The documentation's address. Tests check that the pages and anchors that the package links to exist."""
