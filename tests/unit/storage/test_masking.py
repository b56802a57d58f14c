"""A URL may hold thousands of values: each that Airflow masks makes its masker slower, for the rest of the process."""

from __future__ import annotations

import pytest

from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError
from airflow_provider_veo.storage import web
from tests.unit.storage.conftest import Reply


@pytest.fixture
def masked(monkeypatch):
    found = []
    monkeypatch.setattr(web, "mask_secret", found.append)
    return found


def query(values):
    return "&".join(f"a={number:016d}" for number in range(values))


def test_a_signature_is_masked(host, store, masked):
    store(f"{host.url.partition('?')[0]}?{query(3)}")
    assert len(masked) == 4


def test_of_a_url_with_hundreds_of_values_only_the_query_is_masked(host, store, masked):
    store(f"{host.url.partition('?')[0]}?{query(300)}")
    assert masked == [query(300)]


def test_a_redirect_to_an_endless_url_is_refused(host, store, masked):
    host.script = [Reply(status=302, headers={"Location": f"/x.mp4?{query(600)}"})]
    with pytest.raises((VeoDownloadError, VeoDownloadRefusedError), match="characters"):
        store()
    assert len(masked) <= 3
