"""What an answer means for a wait."""

import logging

import pytest

from airflow_provider_veo.protocol import (
    VeoAuthenticationError,
    VeoContentBlockedError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoRateLimitError,
    VeoResponseError,
    VeoTimeoutError,
    VeoUnavailableError,
    VideoTask,
)
from airflow_provider_veo.protocol.waiting import Wait

ID = "veo3:1-x"


def wait(**arguments):
    return Wait(**{"veo_task_id": ID, "started": 1000.0, "timeout": 600.0, "poll_interval": 15.0, **arguments})


def video(state, status=None, url=None, error=None):
    return VideoTask(id=ID, state=state, status=status or state, video_url=url, error=error)


UNCLEAR = VideoTask(ID, status="pondering", video_url="https://x/y.mp4", may_be_ready=True, warning="unknown")


class Lines(logging.Logger):
    def __init__(self):
        super().__init__("test", logging.INFO)
        self.lines = []

    def handle(self, record):
        self.lines.append((record.levelname, record.getMessage()))


def test_running_continues_and_a_video_ends_it():
    waiting, ready = wait(), video("succeeded", url="https://x/y.mp4")
    assert waiting.answered(video("running")) is None
    assert waiting.answered(ready) is ready


def test_a_running_video_with_a_url_is_not_ready():
    waiting = wait()
    assert [waiting.answered(video("running", url="https://x/y.mp4")) for _ in range(5)] == [None] * 5


def test_unclear_status_with_a_url_in_two_answers_is_taken_as_ready_with_a_warning():
    waiting, log = wait(), Lines()
    assert waiting.answered(UNCLEAR, log) is None
    ready = waiting.answered(UNCLEAR, log)
    assert (ready.state, ready.video_url, ready.status) == ("succeeded", UNCLEAR.video_url, "pondering")
    assert log.lines == [
        ("INFO", f"Video {ID}: pondering"),
        ("WARNING", f"Video {ID}: unknown"),
        ("WARNING", f"Video {ID}: {ready.warning}"),
    ]
    assert "2 answers in succession have its URL" in ready.warning


def test_failed_poll_between_two_answers_does_not_matter():
    waiting = wait()
    waiting.answered(UNCLEAR)
    waiting.got_no_answer(VeoUnavailableError("down"), now=1000.0)
    assert waiting.answered(UNCLEAR).state == "succeeded"


@pytest.mark.parametrize("between", ["running", "succeeded"])
def test_two_answers_must_be_in_succession(between):
    waiting = wait()
    waiting.answered(UNCLEAR)
    waiting.answered(video(between))
    assert waiting.answered(UNCLEAR) is None


@pytest.mark.parametrize("unclear", [VideoTask(ID, status="pondering"), video("running", "video_upsampling_completed")])
def test_unclear_status_without_a_url_is_never_taken_as_ready(unclear):
    waiting = wait()
    assert [waiting.answered(unclear) for _ in range(9)] == [None] * 9


def test_status_is_logged_once():
    waiting, log = wait(), Lines()
    for _ in range(3):
        waiting.answered(video("running"), log)
    assert log.lines == [("INFO", f"Video {ID}: running")]


def test_wait_is_undecided_only_while_more_answers_can_decide():
    waiting = wait()
    assert not waiting.is_undecided
    waiting.answered(UNCLEAR)
    assert waiting.is_undecided
    waiting.got_no_answer(VeoUnavailableError("down"), now=1000.0)
    assert not waiting.is_undecided
    waiting.answered(video("succeeded"))
    assert waiting.is_undecided
    waiting.answered(video("running"))
    assert not waiting.is_undecided


BLOCKED = [
    "your request contains unsafe prompt or images",
    "has been REJECTED BY GOOGLE",
    "no (content_policy_violation)",
    "PUBLIC_ERROR_UNSAFE_GENERATION",
    "raiMediaFilteredReasons: 1",
    "PUBLIC_ERROR_PROMINENT_PEOPLE_FILTER_FAILED",
    "blocked by the safety filter",
    "it may violate our terms",
    "failed; prompt violating content policies",
    "内容违规",
    "包含敏感词",
]


@pytest.mark.parametrize("reason", BLOCKED)
def test_blocked_video_is_a_failure_that_may_pass_the_next_time(reason):
    with pytest.raises(VeoContentBlockedError) as caught:
        wait().answered(video("failed", error=reason))
    text = str(caught.value)
    for part in (ID, reason, "false positive", "may pass the next time", "refund"):
        assert part in text
    assert isinstance(caught.value, VeoGenerationFailedError)
    assert (caught.value.veo_task_id, caught.value.final, caught.value.transient) == (ID, False, False)


@pytest.mark.parametrize("reason", ["policy", "out of memory", "", None, "[403] reCAPTCHA evaluation failed"])
def test_other_failures_are_not_called_blocked(reason):
    with pytest.raises(VeoGenerationFailedError) as caught:
        wait().answered(video("failed", error=reason))
    assert type(caught.value) is VeoGenerationFailedError


def test_a_failed_generation_ends_it_with_the_relays_reason():
    with pytest.raises(VeoGenerationFailedError, match="policy") as caught:
        wait().answered(video("failed", error="policy"))
    assert caught.value.veo_task_id == ID
    assert not caught.value.final


def test_a_success_without_a_url_is_asked_a_few_more_times():
    waiting = wait()
    assert [waiting.answered(video("succeeded")) for _ in range(3)] == [None] * 3
    with pytest.raises(VeoResponseError, match="existing_veo_task_id='veo3:1-x'"):
        waiting.answered(video("succeeded"))


@pytest.mark.parametrize("kind", [VeoUnavailableError, VeoRateLimitError, VeoResponseError])
def test_transient_failures_are_asked_again(kind):
    wait().got_no_answer(kind("x"), now=5000.0)


def test_a_bad_key_ends_it():
    with pytest.raises(VeoAuthenticationError):
        wait().got_no_answer(VeoAuthenticationError("x"), now=1001.0)


def test_a_404_is_not_visible_yet_until_it_lasts_for_a_minute():
    waiting = wait()
    for now in (1000.0, 1030.0, 1059.0):
        waiting.got_no_answer(VeoNotFoundError("x"), now)
    with pytest.raises(VeoNotFoundError):
        waiting.got_no_answer(VeoNotFoundError("x"), now=1060.0)


def test_a_404_late_in_a_wait_must_last_too():
    waiting = wait()
    waiting.got_no_answer(VeoNotFoundError("x"), now=1000.0)
    waiting.answered(video("running"))
    waiting.got_no_answer(VeoUnavailableError("x"), now=1300.0)
    waiting.got_no_answer(VeoNotFoundError("x"), now=1400.0)
    with pytest.raises(VeoNotFoundError):
        waiting.got_no_answer(VeoNotFoundError("x"), now=1460.0)


def test_the_relays_patience_prolongs_the_interval_and_the_deadline_shortens_it():
    waiting = wait()
    assert waiting.seconds_to_next(1000.0) == 15.0
    waiting.got_no_answer(VeoRateLimitError("x", retry_after=40.0), now=1000.0)
    assert waiting.seconds_to_next(1000.0, spread=0.0) == 40.0
    assert 40.0 < waiting.seconds_to_next(1000.0, spread=1.0) < 45.0
    assert waiting.seconds_to_next(1590.0) == 10.0
    waiting.answered(video("running"))
    assert waiting.seconds_to_next(1000.0) == 15.0


def test_the_first_question_waits_until_the_video_can_be_ready_and_is_spread_out():
    waiting = wait(due=1060.0)
    assert waiting.seconds_to_first(1000.0, spread=0.0) == 60.0
    assert waiting.seconds_to_first(1000.0, spread=1.0) == 75.0


def test_waits_that_are_started_again_spread_out_anew():
    waiting = wait(due=1060.0)
    assert waiting.seconds_to_first(1100.0, spread=0.0) == 0.0
    assert waiting.seconds_to_first(1100.0, spread=0.9) == 13.5


def test_a_deadline_that_passed_while_nobody_waited_still_allows_a_question():
    assert wait().seconds_to_first(9999.0, spread=1.0) == 0.0


def test_a_clock_that_is_an_hour_behind_does_not_put_the_first_question_off():
    """The worker's clock said when the video is due; the triggerer's is another one."""
    waiting = wait(due=1000.0 + 4 * 15)
    assert waiting.seconds_to_first(1000.0 - 3600, spread=0.0) == 60.0


def test_a_wait_asks_more_rarely_as_it_grows_old():
    waiting = wait(timeout=100_000.0)
    ages = [0.0, 299.0, 450.0, 600.0, 1200.0, 50_000.0]
    assert [waiting.seconds_to_next(1000.0 + age) for age in ages] == [15.0, 15.0, 22.5, 30.0, 60.0, 60.0]


def test_intervals_differ_by_a_fifth():
    waiting = wait()
    assert waiting.seconds_to_next(1000.0, spread=0.0) == pytest.approx(12.0)
    assert waiting.seconds_to_next(1000.0, spread=1.0) == pytest.approx(18.0)


def test_a_relay_that_does_not_answer_for_half_an_hour_ends_it():
    waiting = wait(timeout=100_000.0)
    waiting.got_no_answer(VeoUnavailableError("down"), now=1000.0)
    waiting.got_no_answer(VeoUnavailableError("down"), now=2799.0)
    waiting.answered(video("running"))
    waiting.got_no_answer(VeoUnavailableError("down"), now=3000.0)
    with pytest.raises(VeoUnavailableError, match=r"no answer about video veo3:1-x for 1800 s\. The last error: down"):
        waiting.got_no_answer(VeoUnavailableError("down"), now=4800.0)


def test_a_timeout_says_how_long_what_was_last_and_how_to_go_on():
    waiting = wait()
    waiting.answered(video("running", status="video_generating"))
    waiting.got_no_answer(VeoUnavailableError("the relay is down"), now=1590.0)
    with pytest.raises(VeoTimeoutError) as caught:
        waiting.seconds_to_next(1601.0)
    text = str(caught.value)
    for part in (ID, "601 s", "'video_generating'", "the relay is down", f"existing_veo_task_id={ID!r}", "billed"):
        assert part in text


def test_a_timeout_without_any_answer():
    with pytest.raises(VeoTimeoutError, match="never reported its status"):
        wait().seconds_to_next(1600.0)
