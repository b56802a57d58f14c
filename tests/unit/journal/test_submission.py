"""The record of a submission: what it shows, what it hides, and what is not a valid record."""

from __future__ import annotations

import json

import pytest

from airflow_provider_veo.journal import Submission, formats
from airflow_provider_veo.journal.formats import FORMAT
from airflow_provider_veo.journal.submission import SubmissionState
from airflow_provider_veo.protocol import payload

BODY = {
    "model": "veo3.1-components",
    "prompt": "A cow drinks tea",
    "images": ["https://example.com/a.png?Signature=s3cr3t", "data:image/png;base64,AAAA"],
    "aspect_ratio": "16:9",
    "enhance_prompt": True,
    "enable_upsample": False,
    "webhook_token": "hook-s3cr3t",
}


def submission(account="veo_default", **changes):
    return Submission.of({**BODY, **changes}, account=account)


def test_the_same_request_of_the_same_account_is_the_same():
    assert submission().changes_to(submission()) == []
    assert submission().token != submission().token


def test_a_video_that_an_older_version_submitted_is_recognized():
    """A record as version 0.1.0 wrote it. If this fails, every video in flight is billed again after an upgrade."""
    written = {
        "format": 1,
        "state": "accepted",
        "veo_task_id": "veo3.1-components:1762241017-xTL0P9HvGF",
        "try_number": 1,
        "intended_at": "2026-11-22T01:00:00.000+00:00",
        "accepted_at": "2026-11-22T01:00:01.000+00:00",
        "account": "veo_default at https://az.gptplus5.com",
        "digests": {
            "aspect_ratio": "8e22f972a30c4a20d6d18e1215ab25af",
            "enable_upsample": "fcbcf165908dd18a9e49f7ff27810176",
            "enhance_prompt": "b5bea41b6c623f7c09f1bf24dcae58eb",
            "images": "83a567ea99bae2965be121d3b0723f75",
            "model": "13f87f7a32f7a6a27ba51e8aaeed259f",
            "prompt": "88f0e6371efd0436c9e0d54ff1211dfa",
            "seed": "7902699be42c8a8e46fbbb4501726517",
        },
        "request": {"prompt": "shown to people only"},
        "token": "de5153c82f234dfe8c32c64135816bd7",
        "replaces": None,
    }
    body = payload.build(
        "牛飞上天了",
        "veo3.1-components",
        images=["https://example.com/a.png"],
        aspect_ratio="9:16",
        extra_body={"seed": 7},
    )
    today = Submission.of(body, account="veo_default")
    recorded = Submission.from_dict(written)
    assert recorded.changes_to(today) == []
    other = Submission.of(body, account="veo")
    assert recorded.changes_to(other) == ["account: was 'veo_default at https://az.gptplus5.com', is 'veo'"]
    assert recorded.submitted == 1795309201.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": "A dog"}, "prompt: was 'A cow drinks tea', is 'A dog'"),
        ({"model": "veo3"}, "model: was 'veo3.1-components', is 'veo3'"),
        ({"enhance_prompt": False}, "enhance_prompt: was 'true', is 'false'"),
        ({"images": BODY["images"][::-1]}, "images: was '2 with sha256 "),
        ({"images": []}, "is '0 with sha256 "),
        ({"seed": 7}, "seed: was not given, is 'sha256 "),
        ({"webhook_token": "other"}, "webhook_token: was 'sha256 "),
    ],
)
def test_what_has_changed_is_named(changes, said):
    (change,) = submission().changes_to(submission(**changes))
    assert said in change


def test_long_prompts_with_different_ends_differ():
    (change,) = submission(prompt="x" * 5000 + "a").changes_to(submission(prompt="x" * 5000 + "b"))
    assert len(change) < 600


def test_a_record_comes_back_as_it_was():
    intended = submission()
    accepted = intended.accepted("veo3:1")
    assert (intended.state, accepted.state) == ("intended", "accepted")
    for each in intended, accepted:
        assert Submission.from_dict(json.loads(json.dumps(each.to_dict()))) == each
    assert intended.submitted <= accepted.submitted


def test_a_record_is_small_and_holds_no_signature():
    record = json.dumps(submission(prompt="牛" * 9000, images=["data:image/png;base64," + "A" * 10**6]).to_dict())
    assert len(record) < 3000
    assert "s3cr3t" not in json.dumps(submission().to_dict())


RECORD = {"format": FORMAT, **submission().accepted("veo3:1").to_dict()}


@pytest.mark.parametrize(
    "record",
    [
        "garbage",
        7,
        [],
        {},
        {"state": "accepted", "veo_task_id": "veo3:1"},
        {**RECORD, "format": 0},
        {**RECORD, "format": "1"},
        {**RECORD, "veo_task_id": None},
        {**RECORD, "veo_task_id": ""},
        {**RECORD, "veo_task_id": 7},
        {**RECORD, "state": "intended"},
        {**RECORD, "intended_at": "yesterday"},
        {**RECORD, "request": "a cow"},
        {**RECORD, "request": {"prompt": 7}},
        {**RECORD, "account": None},
        {**RECORD, "try_number": "1"},
        {**RECORD, "try_number": True},
        {**RECORD, "digests": ["a"]},
        {**RECORD, "request": ["m"]},
        {**RECORD, "cost": float("nan")},
        {**RECORD, "cost": -1},
        {name: value for name, value in RECORD.items() if name != "token"},
        json.loads(json.dumps(RECORD).replace("veo_task_id", "id")),
    ],
)
def test_invalid_records_are_refused(record):
    with pytest.raises(ValueError, match=r"not the record of a submission|expected a JSON object"):
        Submission.from_dict(record)


def test_a_record_of_a_future_format_says_so():
    with pytest.raises(ValueError, match=rf"format {FORMAT + 1}.* newer version"):
        Submission.from_dict({**RECORD, "format": FORMAT + 1})


def test_unknown_fields_of_a_newer_version_are_ignored():
    assert Submission.from_dict({**RECORD, "note": "new"}).veo_task_id == "veo3:1"


def test_each_state_is_one_that_is_read():
    assert tuple(state.value for state in SubmissionState) == formats._STATES
