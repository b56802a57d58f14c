"""What a task instance submitted, remembered across its tries, so that no video is paid for twice."""

from __future__ import annotations

from airflow_provider_veo.journal.journal import UNPROTECTED, Journal, open_journal, persistently
from airflow_provider_veo.journal.submission import Submission

__all__ = ["UNPROTECTED", "Journal", "Submission", "open_journal", "persistently"]
