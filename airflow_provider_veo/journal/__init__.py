"""Records of what a task instance submitted, kept across its tries so that no video is billed twice."""

from __future__ import annotations

from airflow_provider_veo.journal.submission import Submission
from airflow_provider_veo.journal.task_journal import UNPROTECTED, TaskJournal, open_journal, persistently

__all__ = ["UNPROTECTED", "Submission", "TaskJournal", "open_journal", "persistently"]
