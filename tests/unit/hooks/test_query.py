"""Questions and waits against a relay over real HTTP, with every fault caused."""

from __future__ import annotations

import re
import urllib.request

import pytest

from airflow_provider_veo.protocol import (
    VeoAuthenticationError,
    VeoContentBlockedError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoResponseError,
    VeoTimeoutError,
)
from tests.unit.hooks.conftest import BODY

# --- a query ---------------------------------------------------------------------------------------------------------


def test_a_video_is_asked_for_by_the_id_that_create_returned(relay, hook):
    relay.configure(other_id=True)
    video = hook.create_video(BODY)
    asked = hook.get_video(video.id)
    assert asked.id == video.id
    assert (asked.state, asked.model) == ("succeeded", "veo3-fast")
    assert asked.enhanced_prompt
    with urllib.request.urlopen(asked.video_url) as answer:
        assert answer.headers["Content-Type"] == "video/mp4"


@pytest.mark.parametrize("settings", [{"wrapped": True}, {"url_field": "output_url"}, {"url_field": "url"}], ids=str)
def test_every_shape_of_a_query_is_understood(relay, hook, settings):
    relay.configure(**settings)
    assert hook.get_video(hook.create_video(BODY).id).video_url


@pytest.mark.parametrize(
    "fault",
    [
        "status=500",
        "bare=502",
        "rate-limit=0",
        "rate-limit",
        "drop-before",
        "reset",
        "redirect",
        "bare=405",
        "cut-off",
        "no-json",
        "empty",
        "quota",
    ],
)
def test_a_transient_answer_is_asked_again(relay, hook, impatient, fault):
    video = hook.create_video(BODY)
    relay.set_faults(f"query:{fault}@1-2")
    assert hook.get_video(video.id).state == "succeeded"
    assert relay.stats()["requests"]["query"] == 3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status=401", VeoAuthenticationError),
        ("status=403", VeoAuthenticationError),
        ("status=404", VeoNotFoundError),
    ],
)
def test_a_final_answer_is_not_asked_again(relay, hook, fault, kind):
    video = hook.create_video(BODY)
    relay.set_faults(f"query:{fault}")
    with pytest.raises(kind):
        hook.get_video(video.id)
    assert relay.stats()["requests"]["query"] == 1


def test_an_id_that_no_one_knows(hook):
    with pytest.raises(VeoNotFoundError, match="veo3:1-unknown"):
        hook.get_video("veo3:1-unknown")


# --- a wait ----------------------------------------------------------------------------------------------------------


def wait(hook, video, **arguments):
    return hook.wait_for_video(video.id, **{"poll_interval": 0.05, "timeout": 30, **arguments})


def test_a_wait_ends_with_the_video_and_logs_each_status_once(relay, hook, logged):
    relay.configure(generation_seconds=3)
    video = hook.create_video(BODY)
    assert wait(hook, video).video_url
    told = re.findall(rf"Video {video.id}: (\w+)", logged())
    assert told[-1] == "completed"
    assert len(told) == len(set(told)) >= 2


@pytest.mark.parametrize(
    "fault",
    [
        "query:bare=502@1-3",
        "query:drop-before@1-3",
        "query:rate-limit=0@1-3",
        "late-url=3",
        "not-found-first=3",
        "leftover-error",
        "query:unknown-status@1-3",
        "query:upper-case",
        "upsampling-failed",
        "query:status-word=pondering",
        "query:status-word=video_upsampling_completed",
        "query:error-status@1-3",
    ],
)
def test_a_wait_outlasts(relay, hook, fault):
    relay.set_faults(fault)
    video = wait(hook, hook.create_video(BODY))
    assert video.video_url
    assert video.state == "succeeded"


def test_unclear_status_is_taken_as_ready_with_a_warning(relay, hook, logged):
    relay.set_faults("query:status-word=pondering")
    wait(hook, hook.create_video(BODY))
    assert "taken as ready: 2 answers in succession have its URL, with status 'pondering'" in logged()


def test_blocked_video_says_that_it_may_pass_the_next_time(relay, hook):
    relay.set_faults("failed=unsafe prompt, rejected by google:detail.video_generation_error")
    with pytest.raises(VeoContentBlockedError, match="may pass the next time") as caught:
        wait(hook, hook.create_video(BODY))
    assert not caught.value.final


def test_an_unknown_status_is_warned_of(relay, hook, logged):
    relay.set_faults("query:unknown-status=pondering@1")
    wait(hook, hook.create_video(BODY))
    assert "the status 'pondering' is unknown" in logged()


@pytest.mark.parametrize(
    "form",
    ["error", "error-object", "fail_reason", "detail.error", "detail.error_message", "detail.video_generation_error"],
)
def test_a_failed_generation_tells_the_relays_reason(relay, hook, form):
    relay.set_faults(f"failed=blocked by policy:{form}")
    video = hook.create_video(BODY)
    with pytest.raises(VeoGenerationFailedError, match="blocked by policy") as caught:
        wait(hook, video)
    assert caught.value.veo_task_id == video.id


def test_a_video_that_never_gets_a_url(relay, hook):
    relay.set_faults("no-url")
    with pytest.raises(VeoResponseError, match="is billed"):
        wait(hook, hook.create_video(BODY))
    assert relay.stats()["requests"]["query"] == 4


def test_a_wait_gives_up_in_time(relay, hook):
    relay.configure(generation_seconds=60)
    video = hook.create_video(BODY)
    with pytest.raises(VeoTimeoutError, match=f"existing_veo_task_id='{video.id}'"):
        wait(hook, video, timeout=0.5)


def test_a_key_that_is_refused_ends_a_wait(relay, hook):
    video = hook.create_video(BODY)
    relay.configure(api_key="another")
    with pytest.raises(VeoAuthenticationError):
        wait(hook, video)
