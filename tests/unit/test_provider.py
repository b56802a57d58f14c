"""What the package declares to Airflow, and what importing it costs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import jsonschema
import pytest

from airflow_provider_veo import __version__
from airflow_provider_veo.connection import form
from airflow_provider_veo.get_provider_info import get_provider_info
from tests.airflow_lines import LINE

AIRFLOW = Path(importlib.util.find_spec("airflow").submodule_search_locations[0])
FIELDS = {
    "api",
    "default_model",
    "account",
    "models",
    "prices",
    "on_cleared",
    "connect_timeout",
    "read_timeout",
    "proxy",
    "ca_bundle",
    "allow_insecure_http",
    "allow_private_media",
}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


NO_WARNINGS = """
import importlib, pkgutil, warnings
warnings.filterwarnings("error", module=r"airflow_provider_veo(\\.|$)")
import airflow_provider_veo
names = [module.name for module in pkgutil.walk_packages(airflow_provider_veo.__path__, "airflow_provider_veo.")]
for name in names:
    if not name.startswith({skipped}):
        importlib.import_module(name)
print(len(names))
"""
"""In a process of its own: other tests have already imported the modules."""


def test_no_module_is_imported_with_a_warning():
    skipped = ["airflow_provider_veo.ui."] * (LINE < (3, 1)) + ["airflow_provider_veo.retry_policy"] * (LINE < (3, 3))
    printed = python(NO_WARNINGS.format(skipped=tuple(skipped)))
    assert int(printed.split()[-1]) > 100  # some lines log on the same stream


def test_the_provider_info_obeys_airflows_schema():
    schema = json.loads((AIRFLOW / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_field_behaviour_obeys_airflows_schema():
    schema = json.loads((AIRFLOW / "customized_form_field_behaviours.schema.json").read_text())
    jsonschema.validate(form.ui_field_behaviour(), schema)


def test_the_provider_info_names_the_version():
    assert get_provider_info()["versions"] == [__version__]


def test_everything_that_the_provider_info_names_exists():
    info = get_provider_info()
    for group in ("hooks", "operators"):
        for module in (module for entry in info[group] for module in entry["python-modules"]):
            assert importlib.util.find_spec(module)
    module, _, name = info["connection-types"][0]["hook-class-name"].rpartition(".")
    assert hasattr(importlib.import_module(module), name)


@pytest.fixture(scope="module")
def meta_data():
    """What Airflow's API tells the connection form."""
    from airflow.api_fastapi.core_api.services.ui import connections as services

    (veo,) = [meta for meta in services.HookMetaService.hook_meta_data() if meta.connection_type == "veo"]
    return veo


def test_the_form_has_all_fields_with_labels_and_descriptions(meta_data):
    assert set(meta_data.extra_fields) == FIELDS
    for field in meta_data.extra_fields.values():
        assert field["schema"]["title"]
        assert field["description"]


def test_the_form_hides_what_is_not_used_and_names_the_rest(meta_data):
    standard = meta_data.standard_fields
    assert (standard.login.hidden, standard.password.title) == (True, "API key")
    assert standard.host.placeholder == "https://az.gptplus5.com"


def test_every_text_field_of_the_form_has_a_placeholder():
    texts = {name for name, field in form.CONN_FIELDS.items() if field["schema"]["type"][0] != "boolean"}
    assert texts <= set(form.PLACEHOLDERS)


@pytest.mark.slow
def test_importing_the_operators_loads_no_client_and_no_validator():
    loaded = python(
        "import sys; from airflow.providers.common.compat.sdk import BaseOperator; before = set(sys.modules)\n"
        "import airflow_provider_veo.operators\n"
        "print(' '.join(set(sys.modules) - before))"
    ).split()
    assert "airflow_provider_veo.operators.create" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in {"requests", "jsonschema", "aiohttp", "tenacity"}}


@pytest.mark.slow
def test_a_dag_file_with_literals_loads_no_client_and_no_validator():
    loaded = python(
        "import sys; from airflow.providers.common.compat.sdk import BaseOperator\n"
        "BaseOperator(task_id='any'); before = set(sys.modules)\n"
        "from airflow_provider_veo.operators import VeoCreateVideoOperator\n"
        "VeoCreateVideoOperator(task_id='x', prompt='a', model='veo3.1', images=['https://example.com/a.png'])\n"
        "print(' '.join(set(sys.modules) - before))"
    ).split()
    assert not {name for name in loaded if name.partition(".")[0] in {"requests", "jsonschema", "aiohttp", "tenacity"}}


def test_the_form_of_widgets_has_all_fields():
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    widgets = {name for name, info in manager.connection_form_widgets.items() if name.startswith("extra__veo__")}
    assert widgets == {f"extra__veo__{name}" for name in FIELDS}
    assert manager.field_behaviours["veo"]["relabeling"] == form.RELABELING
    assert set(manager.field_behaviours["veo"]["hidden_fields"]) == set(form.HIDDEN_FIELDS)


@pytest.mark.slow
def test_the_page_is_declared_where_airflow_has_pages_and_costs_nothing_to_declare():
    code = (
        "import sys; from airflow_provider_veo.ui.plugin import VeoPlugin as P; "
        "print(len(P.fastapi_apps), len(P.external_views), 'airflow_provider_veo.ui.app' in sys.modules)"
    )
    there = 1 if LINE >= (3, 1) else 0
    assert python(code).splitlines()[-1] == f"{there} {there} False"
    (entry,) = entry_points(group="airflow.plugins", name="veo")
    assert entry.value == "airflow_provider_veo.ui.plugin:VeoPlugin"
