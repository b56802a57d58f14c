"""The fields of the connection form.

Airflow 3.2+ reads them from the provider info (``conn-fields``); older versions get WTForms fields from the hook.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_veo import DOCUMENTATION
from airflow_provider_veo.protocol.forms import APIS

_OPTIONAL_TEXT = {"type": ["string", "null"]}
_OPTIONAL_OBJECT = {"type": ["object", "null"]}
_OPTIONAL_SECONDS = {"type": ["integer", "null"], "minimum": 1}
_OPTIONAL_BOOLEAN = {"type": ["boolean", "null"], "default": False}

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "api": {
        "label": "API",
        "description": (
            "Form of the relay's API: unified (POST /v1/video/create, the default) or openai (POST /v1/videos)."
        ),
        "schema": {"type": ["string", "null"], "enum": list(APIS)},
    },
    "default_model": {
        "label": "Default model",
        "description": "Used if a task names no model, e.g. veo3-fast.",
        "schema": _OPTIONAL_TEXT,
    },
    "account": {
        "label": "Account",
        "description": ("Name of the billed account, if several connections share it. Default: the connection's id."),
        "schema": _OPTIONAL_TEXT,
    },
    "models": {
        "label": "Additional models",
        "description": (
            "Models that the relay added since this package was released, as JSON: "
            '{"veo4-fast": {"max_images": 2, "aspect_ratio": true}} '
            # The form shows plain text, so only the field that needs it most has an address.
            f"See {DOCUMENTATION}connection/#models-that-this-release-doesnt-know"
        ),
        "schema": _OPTIONAL_OBJECT,
    },
    "prices": {
        "label": "Prices",
        "description": (
            "Price of one video by model, in any currency, or of one second, as JSON: "
            '{"veo3-fast": 0.4, "veo3": {"per_second": 0.75, "seconds": 8}}'
        ),
        "schema": _OPTIONAL_OBJECT,
    },
    "on_cleared": {
        "label": "On cleared",
        "description": (
            "What a task does if it was cleared and Airflow deleted its record, as Airflow 3.4 does by default: submit "
            "(default), which may be billed again, or fail."
        ),
        "schema": _OPTIONAL_TEXT,
    },
    "connect_timeout": {
        "label": "Connect timeout",
        "description": "Maximum seconds to connect to the relay. Default: 10.",
        "schema": _OPTIONAL_SECONDS,
    },
    "read_timeout": {
        "label": "Read timeout",
        "description": "Maximum seconds to wait for the relay's answer. Default: 60.",
        "schema": _OPTIONAL_SECONDS,
    },
    "proxy": {
        "label": "Proxy",
        "description": "URL of a proxy to reach the relay through, e.g. http://proxy.example.com:3128",
        "schema": _OPTIONAL_TEXT,
    },
    "ca_bundle": {
        "label": "CA bundle",
        "description": "Path on the workers of the certificates to trust instead of the default ones.",
        "schema": _OPTIONAL_TEXT,
    },
    "allow_insecure_http": {
        "label": "Allow insecure http",
        "description": "Send the API key over plain http to a public address. Anyone on the network path can read it.",
        "schema": _OPTIONAL_BOOLEAN,
    },
    "allow_private_media": {
        "label": "Allow private media",
        "description": "Fetch video files from private addresses too, e.g. from a relay in your own network.",
        "schema": _OPTIONAL_BOOLEAN,
    },
}

HIDDEN_FIELDS = ["login", "extra"]
RELABELING = {"host": "Base URL", "password": "API key", "schema": "Scheme"}
PLACEHOLDERS = {
    "host": "https://az.gptplus5.com",
    "password": "the relay's key, without Bearer",
    "schema": "https",
    "port": "443",
    "api": "unified",
    "default_model": "veo3-fast",
    "account": "studio",
    "models": '{"veo4-fast": {"max_images": 2, "aspect_ratio": true}}',
    "prices": '{"veo3-fast": 0.4}',
    "on_cleared": "submit",
    "connect_timeout": "10",
    "read_timeout": "60",
    "proxy": "http://proxy.example.com:3128",
    "ca_bundle": "/etc/ssl/certs/ca-certificates.crt",
}


def ui_field_behaviour() -> dict[str, Any]:
    """Return how the form shows the standard fields, in the hook's format."""
    return {"hidden_fields": HIDDEN_FIELDS, "relabeling": RELABELING, "placeholders": PLACEHOLDERS}


def connection_form_widgets() -> dict[str, Any]:
    """Return the additional fields as WTForms fields, in the hook's format."""
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from wtforms import BooleanField, IntegerField, StringField
    from wtforms.validators import Optional, any_of

    def widget(field: dict[str, Any]) -> Any:
        label, description, schema = field["label"], field["description"], field["schema"]
        kind = schema["type"][0]
        if kind == "boolean":
            return BooleanField(label, description=description)
        make = IntegerField if kind == "integer" else StringField
        checks = [Optional(), *([any_of(schema["enum"])] if "enum" in schema else [])]
        return make(label, validators=checks, widget=BS3TextFieldWidget(), description=description)

    return {name: widget(field) for name, field in CONN_FIELDS.items()}
