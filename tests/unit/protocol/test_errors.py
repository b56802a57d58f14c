"""Errors travel from a trigger to a task, and between processes, as what they are."""

from __future__ import annotations

import json
import pickle

import pytest

from airflow_provider_veo import protocol
from airflow_provider_veo.protocol import VeoError, VeoRateLimitError, VeoUnavailableError, VeoValidationError
from airflow_provider_veo.protocol.errors import from_dict

KINDS = [kind for name in protocol.__all__ if name.endswith("Error") and (kind := getattr(protocol, name))]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_error_comes_back_as_it_was(kind):
    error = kind("what failed", status_code=503) if kind is not VeoValidationError else kind("wrong", ["a: is missing"])
    again = from_dict(json.loads(json.dumps(error.to_dict())))
    assert (type(again), str(again)) == (kind, str(error))
    assert pickle.loads(pickle.dumps(error)).to_dict() == error.to_dict()


def test_error_of_an_unknown_kind_is_an_error():
    assert type(from_dict({"kind": "VeoErrorOfTheFuture", "message": "new"})) is VeoError


def test_more_text_leaves_the_first_error_alone():
    error = VeoRateLimitError("busy", retry_after=7)
    more = error.adding("The next try sends it.", final=False)
    assert (str(more), more.retry_after, more.final) == ("busy\nThe next try sends it.", 7, False)
    assert str(error) == "busy"
    assert VeoUnavailableError("down").adding("later").final is VeoUnavailableError.final
