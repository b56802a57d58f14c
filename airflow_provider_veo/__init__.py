"""Generate videos with Veo from Apache Airflow, through a relay of the "unified video format" family."""

__version__ = "0.1.0"
