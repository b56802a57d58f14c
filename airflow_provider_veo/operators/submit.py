"""
Submit one video once, however often Airflow runs the task.

What a try does about what an earlier one has submitted says :mod:`~airflow_provider_veo.journal.decision`. A video that
was accepted is polled first: one that failed, or that the relay doesn't know any more, is submitted again, for that is
what this try was asked for. Where the relay doesn't answer, this try fails, and the record stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_veo.journal import Submission
from airflow_provider_veo.journal.decision import Action, Policy, decide
from airflow_provider_veo.journal.signals import postponed_while
from airflow_provider_veo.journal.submission import Wanted
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoError,
    VeoJournalError,
    VeoNotFoundError,
    VideoTask,
)
from airflow_provider_veo.protocol.text import shortened
from airflow_provider_veo.protocol.waiting import NOT_FOUND_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import Logger

    import tenacity

    from airflow_provider_veo.hooks import VeoHook
    from airflow_provider_veo.journal import TaskJournal

_PROMPT_CHARACTERS_LOGGED = 120
_SECONDS_BETWEEN_404S = 5.0


class Submitted(NamedTuple):
    """A video that the relay has accepted."""

    video: VideoTask
    """What the relay said of it last."""
    at: float
    """When it was submitted, in epoch seconds."""


@dataclass(frozen=True)
class Submitter:
    """
    Submits a video, unless it is on record.

    :param hook: to the relay.
    :param journal: of the task instance.
    :param on_ambiguous_submit: ``"fail"`` or ``"resubmit"``, where it can't be known whether a request was accepted.
    :param log: the task's.
    :param try_number: the try that this is.
    """

    hook: VeoHook
    journal: TaskJournal
    on_ambiguous_submit: Literal["fail", "resubmit"]
    log: Logger
    try_number: int = 1

    def submit(self, body: Mapping[str, Any]) -> Submitted:
        """
        Submit a video, or go on with the one that an earlier try has submitted.

        :param body: the request's body.
        :raises VeoAmbiguousSubmitError: it may have been accepted, in this try or in an earlier one.
        :raises VeoError: of another kind: this try has sent nothing that was accepted.
        """
        recorded, wanted = self.journal.read(), Wanted(body, self.hook.settings.billed)
        action = decide(recorded, wanted, self._policy)
        if recorded is not None and action is Action.UNKNOWN:
            raise self._unknown(recorded)
        if recorded is not None and action is Action.POLL:
            if (found := self._accepted(recorded, wanted)) is not None:
                return found
        elif recorded is not None:
            self._say_why_it_is_submitted_again(recorded, self._submission(body))
        intent = self.journal.intend(self._submission(body), instead_of=recorded)
        with postponed_while(lambda: self.hook.is_answered):
            video = self._send(body, intent)
            accepted = self.journal.accept(intent, video.id)
        self.log.info("Accepted: video %s, status %s", video.id, video.status)
        return Submitted(video, accepted.submitted)

    def attach(self, veo_task_id: str, body: Mapping[str, Any]) -> Submitted:
        """
        Go on with a video that was submitted elsewhere. Nothing is sent, nothing is paid.

        :param veo_task_id: its id.
        :param body: what the task would have asked for.
        """
        self.log.info("Attaching to video %s: nothing is submitted, nothing is paid", veo_task_id)
        video = self.hook.get_video(veo_task_id)
        self.log.info("Video %s: %s", video.id, video.status)
        return Submitted(video, self.journal.adopt(self._submission(body), veo_task_id).submitted)

    def _submission(self, body: Mapping[str, Any]) -> Submission:
        settings = self.hook.settings
        return Submission.of(body, account=settings.billed.name, try_number=self.try_number)

    @property
    def _policy(self) -> Policy:
        return Policy(self.on_ambiguous_submit)

    def _accepted(self, recorded: Submission, wanted: Wanted) -> Submitted | None:
        """Return the video on record; ``None`` where it is to be submitted again."""
        self.log.info(
            "Video %s is on record since %s (try %d): polling the relay for it",
            recorded.veo_task_id,
            recorded.accepted_at,
            recorded.try_number,
        )
        video = self._poll(str(recorded.veo_task_id))
        if video is None:
            self.log.warning("The relay doesn't know video %s any more: submitting it again", recorded.veo_task_id)
            return None
        known = recorded.ended(video) if video.state != "running" else recorded
        if decide(known, wanted, self._policy) is Action.SUBMIT:
            self.log.warning("Video %s could not be generated (%s): submitting it again", video.id, video.error)
            return None
        self.log.info(
            "Continuing with video %s, status %s: nothing is submitted or billed. To make a new one instead, remove "
            "the record (%s), and clear this task.",
            video.id,
            video.status,
            self.journal.where,
        )
        return Submitted(video, recorded.submitted)

    def _say_why_it_is_submitted_again(self, recorded: Submission, wanted: Submission) -> None:
        if recorded.veo_task_id is None:
            self.log.warning(
                "Try %d of this task began to submit a video at %s, and it can't be known what became of it. "
                "on_ambiguous_submit is 'resubmit': it is submitted again, and may be billed twice.",
                recorded.try_number,
                recorded.intended_at,
            )
            return
        self.log.warning(
            "Video %s, on record since %s (try %d), is not what is asked for now, so the new request is submitted:\n%s",
            recorded.veo_task_id,
            recorded.accepted_at,
            recorded.try_number,
            "\n".join(recorded.changes_to(wanted)),
        )

    def _poll(self, veo_task_id: str) -> VideoTask | None:
        """Poll for a video; ``None`` where the relay doesn't know it, and that lasts."""
        import tenacity

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(VeoNotFoundError),
            stop=tenacity.stop_after_delay(NOT_FOUND_SECONDS),
            wait=tenacity.wait_fixed(_SECONDS_BETWEEN_404S),
            before_sleep=self._log_404,
            reraise=True,
        )
        try:
            return retrying(self.hook.get_video, veo_task_id)
        except VeoNotFoundError:
            return None
        except VeoError as error:
            raise error.adding(
                f"Video {veo_task_id} is on record. Nothing was submitted; the next try asks for it again."
            ) from error.__cause__

    def _log_404(self, state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1:
            self.log.warning("The relay answers 404: asking again for %.0f s, whether that lasts", NOT_FOUND_SECONDS)

    def _send(self, body: Mapping[str, Any], intent: Submission) -> VideoTask:
        self.log.info(
            "Submitting a video to %s: model %s, %d images, aspect ratio %s, prompt %r",
            self.hook.settings.base_url,
            body["model"],
            len(body.get("images", ())),
            body["aspect_ratio"],
            shortened(body["prompt"], _PROMPT_CHARACTERS_LOGGED),
        )
        try:
            return self.hook.create_video(body)
        except VeoAmbiguousSubmitError as error:
            if self.on_ambiguous_submit == "resubmit":
                next_try = "on_ambiguous_submit is 'resubmit': the next try submits it again, and may pay for it twice."
                raise error.adding(next_try, final=False) from error.__cause__
            raise error.adding(self._ways_on(intent)) from error.__cause__
        except BaseException:
            if self.hook.nothing_sent:  # a signal may have ended the wait between two attempts
                self._forget(intent)
            raise

    def _forget(self, intent: Submission) -> None:
        try:
            self.journal.forget(intent)
        except VeoJournalError as error:
            self.log.warning(
                "The relay refused the request, but the record that it was sent could not be removed. A next try can't "
                "know that it was refused. Remove the record first: %s.\n%s",
                self.journal.where_intent,
                error,
            )

    def _unknown(self, intent: Submission) -> VeoAmbiguousSubmitError:
        return VeoAmbiguousSubmitError(
            f"Try {intent.try_number} of this task began to submit a video at {intent.intended_at}, and what became of "
            "it is not on record: the process ended, or the relay's answer was lost. It can't be known whether the "
            "request was accepted: the video may be generated and billed. Look for it at the relay.\n"
            f"{self._ways_on(intent)}"
        )

    def _ways_on(self, intent: Submission) -> str:
        again = "set on_ambiguous_submit='resubmit'"
        if self.journal.survives:
            again = f"remove the record that it was sent ({self.journal.where_intent}), or {again},"
        return (
            f"It was sent to {self.hook.settings.base_url} at about {intent.intended_at}, if at all:\n"
            f"{intent.describe()}\n"
            "  - If it is there: set existing_veo_task_id to its id, and clear this task. It goes on with that video, "
            "and pays nothing.\n"
            f"  - If it isn't: {again} and clear this task. It is submitted again, and paid for twice if it was there "
            "after all."
        )
