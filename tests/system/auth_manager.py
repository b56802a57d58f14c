"""Airflow's simple auth manager, with rights for single DAGs: only an admin may read ``veo_secret``."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

HIDDEN = "veo_secret"


class AuthManagerWithDagRights(SimpleAuthManager):
    """Decides by DAG. All lists of what may be read come from here, too."""

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        if details and details.id == HIDDEN and user.role != "admin":
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
