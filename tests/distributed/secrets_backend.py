"""A secrets backend such as a company writes for its own store of secrets."""

from __future__ import annotations

from pathlib import Path

from airflow.secrets import BaseSecretsBackend


class FolderBackend(BaseSecretsBackend):
    """
    Connections that are files of a folder, named as their ids.

    :param folder: its path.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        path = self._folder / conn_id
        return path.read_text() if path.exists() else None
