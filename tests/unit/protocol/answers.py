"""Answers of a relay, and what the parsers make of them."""

import json

import pytest

from airflow_provider_veo.protocol import (
    VeoError,
    responses,
)

SEED_ID = "veo3.1-components:1762241017-xTL0P9HvGF"
KEY = "sk-canary-0123456789abcdef"


def create(content, status=200, headers=None, **arguments):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return responses.parse_create(status, headers or {}, body, **arguments)


def query(content, status=200, headers=None, **arguments):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return responses.parse_query(status, headers or {}, body, veo_task_id="asked:1", **arguments)


def envelope(code="some_code", message="busy, try again (request id: 2026X)", kind="new_api_error"):
    return {"error": {"message": message, "type": kind, "param": "", "code": code}}


def flat(code="some_code"):
    return {"code": code, "message": "no", "data": None}


def create_error(content, status=200, headers=None, **arguments):
    with pytest.raises(VeoError) as caught:
        create(content, status, headers, **arguments)
    return caught.value


def query_error(content, status=200, headers=None, **arguments):
    with pytest.raises(VeoError) as caught:
        query(content, status, headers, **arguments)
    return caught.value
