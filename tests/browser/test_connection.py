"""Setting up the connection in Airflow's form, and testing it there."""

from __future__ import annotations

import json
import socket

import pytest

from tests.airflow_lines import LINE
from tests.conftest import CANARY
from tests.unit.test_provider import FIELDS

DROPDOWNS = {"api", "on_cleared"}


@pytest.fixture
def form(person):
    """The form for a new connection of type Veo."""
    admin = person("admin")
    page = admin.page
    with page.expect_response(lambda response: "hook_meta" in response.url):  # the types of connections
        page.goto(f"{admin.airflow.url}/connections")
        page.get_by_role("button", name="Add Connection").click()
    page.wait_for_load_state("networkidle")
    page.locator("input[name=connection_id]").fill("veo_by_hand")
    page.keyboard.press("Tab")
    page.keyboard.type("Veo")
    page.get_by_role("option", name="Veo").first.wait_for()
    page.keyboard.press("Enter")
    page.locator("input[name=host]").wait_for()
    return admin


def test_the_form_has_all_fields_with_labels_and_placeholders(form):
    page = form.page
    assert page.locator("input[name=host]").get_attribute("placeholder") == "https://az.gptplus5.com"
    assert page.locator("input[name=password]").get_attribute("type") == "password"
    assert page.locator("input[name=login]").count() == 0
    if LINE < (3, 4):  # they are no longer folded
        page.get_by_text("Extra Fields", exact=True).click()
    page.locator("input[name=element_default_model]").wait_for()
    for name in FIELDS - {"models", "prices"} - DROPDOWNS:
        assert page.locator(f"[name=element_{name}]").count() == 1, name
    for name in DROPDOWNS:  # not on every line is there an element of that name
        assert page.locator(f"[id*=element_{name}]").count() >= 1, name
    text = page.get_by_role("dialog").inner_text()
    for label in "API key", "Default model", "Prices", "Read timeout", "Allow private media", "On cleared":
        assert label.lower() in text.lower(), label


def test_what_is_saved_is_what_the_hook_reads_and_the_key_is_shown_nowhere(form):
    page, relay = form.page, form.airflow.relay
    page.locator("input[name=host]").fill(relay.url.rpartition(":")[0])
    page.locator("input[name=port]").fill(relay.url.rpartition(":")[2])
    page.locator("input[name=password]").fill(CANARY)
    if LINE < (3, 4):  # they are no longer folded
        page.get_by_text("Extra Fields", exact=True).click()
    page.locator("input[name=element_default_model]").fill("veo3-fast")
    page.locator("input[name=element_read_timeout]").fill("45")
    form.picture("connection-form")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("cell", name="veo_by_hand").wait_for()
    # The form closes by and by.
    page.wait_for_function("key => !document.documentElement.outerHTML.includes(key)", arg=CANARY)
    exported = form.airflow.airflow.home / "connections.json"
    form.airflow.airflow.run("connections", "export", str(exported))
    saved = json.loads(exported.read_text())["veo_by_hand"]
    extra = saved["extra"] if isinstance(saved["extra"], dict) else json.loads(saved["extra"])
    assert (saved["conn_type"], saved["password"]) == ("veo", CANARY)
    assert (extra["default_model"], float(extra["read_timeout"])) == ("veo3-fast", 45)
    message = press_test(form, "veo_by_hand")
    assert "accepts the key" in message
    form.picture("connection-test")
    page.reload()
    page.get_by_role("cell", name="veo_by_hand").wait_for()
    assert CANARY not in page.content()


def press_test(form, conn_id: str) -> str:
    """Press *Test* in the row of a connection, and return the message that is shown."""
    row = form.page.get_by_role("row").filter(has=form.page.get_by_role("cell", name=conn_id, exact=True))
    with form.page.expect_response(lambda response: response.url.endswith("/connections/test")) as answered:
        row.get_by_role("button", name="Test Connection").click()
    answer = answered.value.json()
    assert CANARY not in json.dumps(answer)
    assert "message" in answer, f"{answer} to {answered.value.request.post_data}"
    return str(answer["message"])


@pytest.mark.parametrize(
    ("conn_id", "password", "says"),
    [
        ("wrong_key", "sk-not-the-key", ("401", "API key")),
        ("wrong_host", CANARY, ("not as a Veo relay does", "Check the host")),
        ("host_that_is_down", CANARY, ("can't be reached", "Check host, port and proxy")),
    ],
)
def test_test_button_reports_what_is_wrong(person, conn_id, password, says):
    admin = person("admin")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    relay = admin.airflow.relay.url
    hosts = {"wrong_key": relay, "wrong_host": admin.airflow.url, "host_that_is_down": down}
    host, _, port = hosts[conn_id].rpartition(":")
    # Airflow 3.3 tests a connection from its list only where it has a port of its own.
    document = {"connection_id": conn_id, "conn_type": "veo", "host": host, "port": int(port), "password": password}
    assert admin.airflow.services.ask("POST", "/api/v2/connections", document).ok
    admin.page.goto(f"{admin.airflow.url}/connections")
    message = press_test(admin, conn_id)
    for text in says:
        assert text.lower() in message.lower()
    assert password not in message
