"""The provider info that Airflow reads."""

from __future__ import annotations

from typing import Any

from airflow_provider_veo import DOCUMENTATION, __version__
from airflow_provider_veo.connection import form

_INTEGRATION = "Veo"


def get_provider_info() -> dict[str, Any]:
    """Return the provider info: the connection type, its form, and the modules and classes."""
    return {
        "package-name": "airflow-provider-veo",
        "name": "Veo",
        "description": "Generate videos with Veo through a relay API.",
        "versions": [__version__],
        "integrations": [{"integration-name": _INTEGRATION, "external-doc-url": DOCUMENTATION, "tags": ["service"]}],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_veo.hooks"]}],
        "operators": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_veo.operators"]}],
        "sensors": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_veo.sensors"]}],
        "triggers": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_veo.triggers"]}],
        "task-decorators": [
            {"name": "veo_video", "class-name": "airflow_provider_veo.decorators.veo_video_task"},
            {"name": "veo_video_batch", "class-name": "airflow_provider_veo.decorators.veo_video_batch_task"},
        ],
        "config": {
            "veo": {
                "description": "Options of the Veo provider.",
                "options": {
                    "journal_path": {
                        "description": (
                            "Where tasks record across tries what they submitted, so that nothing is billed twice: "
                            "the URI of a folder that all workers share, as ObjectStoragePath accepts it. Default: "
                            "the task state store on Airflow 3.3 and later, nowhere on earlier versions."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@my-bucket/veo-journal",
                        "default": "",
                    },
                    "page_roots": {
                        "description": (
                            "Where the Veo videos page may read stored videos and the folders of batches: URI "
                            "prefixes, separated by commas or as a JSON list. The connection id must be the one in "
                            "the recorded paths. {dag_id} stands for the DAG whose video is shown: under a root "
                            "without it, anyone who may edit XComs of one DAG can show the files of another. "
                            "Default: the page reads nothing from storage."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@my-bucket/videos/{dag_id}",
                        "default": "",
                    },
                    "page_media_hosts": {
                        "description": (
                            "Hosts from which the Veo videos page may play videos that are not stored, after a click: "
                            "names, separated by commas or as a JSON list; https, unless a name begins with http://. "
                            "Default: browsers load nothing from other hosts."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "videos.example.com",
                        "default": "",
                    },
                },
            }
        },
        "extra-links": ["airflow_provider_veo.links.VideoLink"],
        "connection-types": [
            {
                "connection-type": "veo",
                "hook-class-name": "airflow_provider_veo.hooks.VeoHook",
                "hook-name": "Veo",
                "conn-fields": form.CONN_FIELDS,
                "ui-field-behaviour": {
                    "hidden-fields": form.HIDDEN_FIELDS,
                    "relabeling": form.RELABELING,
                    "placeholders": form.PLACEHOLDERS,
                },
            }
        ],
    }
