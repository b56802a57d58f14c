"""
Submit one video once, however often Airflow runs the task.

:mod:`~airflow_provider_veo.journal.decision` says what a try does about an earlier submission. An accepted video is
polled first: if it failed, or the relay no longer knows it, it is submitted again, because that is the purpose of a
retry. If the relay doesn't answer, this try fails, and the record stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_veo.journal import Submission
from airflow_provider_veo.journal.decision import Action, Policy, decide
from airflow_provider_veo.journal.signals import postponed_while
from airflow_provider_veo.journal.submission import Wanted
from airflow_provider_veo.metrics import UNTAGGED, TaskMetrics
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoError,
    VeoJournalError,
    VeoJournalRecordError,
    VeoNotFoundError,
    VideoTask,
    words,
)
from airflow_provider_veo.protocol.text import first_line, shortened
from airflow_provider_veo.protocol.waiting import NOT_FOUND_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import tenacity

    from airflow_provider_veo.hooks import VeoHook
    from airflow_provider_veo.hooks.uploads import Prepared
    from airflow_provider_veo.journal import TaskJournal
    from airflow_provider_veo.log import Log

_PROMPT_CHARACTERS_LOGGED = 120
_SECONDS_BETWEEN_404S = 5.0

_BILLED_AGAIN = (
    "if a video was submitted before, it is submitted and billed again. Such a video is in the log and XComs of an "
    "earlier try. To continue with it instead, set existing_veo_task_id to its id, and clear this task. Records under "
    "[veo] journal_path survive a clear."
)
_WAYS_ON_WHEN_LOST = (
    "  - If a video was submitted before (see the log and XComs of earlier tries): set existing_veo_task_id to its id, "
    "and clear this task. It continues with that video, and nothing more is billed.\n"
    "  - If none was: set on_cleared='submit', and clear this task.\n"
    "Records under [veo] journal_path survive a clear."
)


class Submitted(NamedTuple):
    """A video that the relay has accepted."""

    video: VideoTask
    """Its last known state."""
    record: Submission
    """Its record."""

    @property
    def at(self) -> float:
        """When it was submitted, in epoch seconds."""
        return self.record.submitted

    @property
    def reworded(self) -> str | None:
        """The prompt that was sent, if ``on_blocked`` returned it."""
        return self.record.reworded


@dataclass(frozen=True)
class Submitter:
    """
    Submits a video, unless it is on record.

    :param hook: the hook to the relay.
    :param journal: the journal of the task instance.
    :param on_ambiguous_submit: ``"fail"`` or ``"resubmit"``, if it is unknown whether a request was accepted.
    :param log: the task's logger.
    :param try_number: number of the current try.
    :param on_cleared: ``"submit"`` or ``"fail"``, if the task was cleared and its record is gone; ``None``: the
        connection's.
    :param attempts_if_blocked: maximum number of times that a blocked prompt is submitted again, in all tries.
    :param reword: returns another prompt for a blocked request, given its body and record; ``None``: nobody does.
    :param metrics: the task's.
    """

    hook: VeoHook
    journal: TaskJournal
    on_ambiguous_submit: Literal["fail", "resubmit"]
    log: Log
    try_number: int = 1
    on_cleared: Literal["submit", "fail"] | None = None
    attempts_if_blocked: int = 1
    reword: Callable[[Mapping[str, Any], Submission], str] | None = None
    metrics: TaskMetrics = UNTAGGED

    def submit(self, body: Mapping[str, Any]) -> Submitted:
        """
        Submit a video, or continue with the one that an earlier try has submitted.

        :param body: the request's body.
        :raises VeoAmbiguousSubmitError: it may have been accepted, in this try or in an earlier one.
        :raises VeoJournalRecordError: ``on_cleared`` is ``"fail"``, and there may have been an earlier submission.
        :raises VeoError: any other class: nothing that this try sent was accepted.
        """
        recorded, wanted = self.journal.read(), Wanted(body, self.hook.settings.billed)
        before = None
        self.metrics.found_unknown(recorded is not None and recorded.veo_task_id is None)
        if recorded is None:
            self._begin()
        else:
            found = self._continue(recorded, wanted, decide(recorded, wanted, self.policy))
            if isinstance(found, Submitted):
                return found
            before = found
        price = self.hook.settings.price_of(body)
        submission = self._submission(body).priced(recorded, price)
        if before is not None and before.asks_for(wanted):
            submission = submission.following(before)
        sent = submission.body_for(wanted)
        prepared = self.hook.prepare(sent)
        intent = self.journal.intend(submission, instead_of=recorded)
        create = self.metrics.create(body["model"], price)
        try:
            with postponed_while(lambda: self.hook.is_answered):
                with create.sending():
                    video = self._send(sent, prepared, intent, recorded)
                accepted = self.journal.accept(intent, video.id)
        finally:
            create.report()
        self.log.info("Accepted: video %s, status %s", video.id, video.status)
        return Submitted(video, accepted)

    def attach(self, veo_task_id: str, body: Mapping[str, Any]) -> Submitted:
        """
        Continue with a video that was submitted elsewhere. Nothing is submitted or billed.

        :param veo_task_id: its id.
        :param body: the request that the task would have sent.
        """
        self.log.info("Attaching to video %s: nothing is submitted or billed", veo_task_id)
        video = self.hook.get_video(veo_task_id)
        self.log.info("Video %s: %s", video.id, video.status)
        return Submitted(video, self.journal.adopt(self._submission(body), veo_task_id))

    def _begin(self) -> None:
        """Notice that records are gone before anything is submitted without them."""
        if lost := self.journal.lost():
            if (self.on_cleared or self.hook.settings.on_cleared) == "fail":
                raise VeoJournalRecordError(f"{lost} on_cleared is 'fail': nothing was sent.\n{_WAYS_ON_WHEN_LOST}")
            self.log.warning("%s on_cleared is 'submit': %s", lost, _BILLED_AGAIN)
        self.journal.begin(self.try_number)

    def _submission(self, body: Mapping[str, Any]) -> Submission:
        settings = self.hook.settings
        return Submission.of(body, account=settings.billed.name, try_number=self.try_number)

    def _continue(self, recorded: Submission, wanted: Wanted, action: Action) -> Submitted | Submission:
        """Return the video on record, or, only if it is to be submitted again, what is known of it."""
        if action is Action.POLL:
            return self._accepted(recorded, wanted)
        if action is not Action.SUBMIT:
            raise self._unknown(recorded)
        self._say_why_it_is_submitted_again(recorded, self._submission(wanted.body))
        return recorded

    @property
    def policy(self) -> Policy:
        """The policy for a submission that is on record."""
        return Policy(
            self.on_ambiguous_submit,
            attempts_if_blocked=self.attempts_if_blocked,
            rewords=self.reword is not None,
        )

    def known(self, recorded: Submission, video: VideoTask) -> Submission:
        """Return the record of a video with what the relay says of it, and the prompt to send in its place."""
        if video.state == "running":
            return recorded
        known = recorded.ended(video)
        prompt = self.journal.reworded(recorded) if known.is_blocked else None
        return known if prompt is None else known.with_prompt(prompt)

    def _accepted(self, recorded: Submission, wanted: Wanted) -> Submitted | Submission:
        """Return the video on record, or, if it must be submitted again, what is known of it."""
        self.log.info(
            "Video %s has been on record since %s (try %d): polling the relay for it",
            recorded.veo_task_id,
            recorded.accepted_at,
            recorded.try_number,
        )
        video = self._poll(str(recorded.veo_task_id))
        if video is None:
            self.log.warning("The relay no longer knows video %s: submitting it again", recorded.veo_task_id)
            return recorded
        known = self.known(recorded, video)
        action = decide(known, wanted, self.policy)
        if action is Action.REWORD and self.reword is not None:
            prompt = self.reword(known.body_for(wanted), known)
            self.journal.reword(recorded, prompt)
            return known.with_prompt(prompt)
        if action is Action.SUBMIT:
            self.log.warning("Video %s could not be generated (%s): submitting it again", video.id, video.error)
            return known
        self.log.info(
            "Continuing with video %s, status %s: nothing is submitted or billed. To make a new one instead, remove "
            "the record (%s), and clear this task.",
            video.id,
            video.status,
            self.journal.where,
        )
        return Submitted(video, recorded)

    def _say_why_it_is_submitted_again(self, recorded: Submission, wanted: Submission) -> None:
        if recorded.veo_task_id is None:
            self.log.warning(
                "Try %d of this task began to submit a video at %s, and the outcome is unknown. "
                "on_ambiguous_submit is 'resubmit': it is submitted again, and may be billed twice.",
                recorded.try_number,
                recorded.intended_at,
            )
            return
        self.log.warning(
            "Video %s, on record since %s (try %d), is for another request, so the current one is submitted:\n%s",
            recorded.veo_task_id,
            recorded.accepted_at,
            recorded.try_number,
            "\n".join(recorded.changes_to(wanted)),
        )

    def _poll(self, veo_task_id: str) -> VideoTask | None:
        """
        Poll a video; ``None`` if the relay persistently says that it doesn't know it.

        Another 404 may come from a wrong host, another form of the API, or a gateway's own page.
        """
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
        except VeoError as error:
            if isinstance(error, VeoNotFoundError) and words.is_not_found(first_line(error)):
                return None
            raise error.adding(
                f"Video {veo_task_id} is on record. Nothing was submitted; the next try polls it again."
            ) from error.__cause__

    def _log_404(self, state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1:
            self.log.warning("The relay returned 404: polling again for at most %.0f s", NOT_FOUND_SECONDS)

    def _send(
        self, body: Mapping[str, Any], prepared: Prepared, intent: Submission, instead_of: Submission | None
    ) -> VideoTask:
        self.log.info(
            "Submitting a video to %s: model %r, %d images, aspect ratio %s, prompt %r",
            self.hook.settings.base_url,
            shortened(body["model"], _PROMPT_CHARACTERS_LOGGED),
            len(body.get("images", ())),
            body["aspect_ratio"],
            shortened(body["prompt"], _PROMPT_CHARACTERS_LOGGED),
        )
        try:
            return self.hook.submit(prepared)
        except VeoAmbiguousSubmitError as error:
            if self.on_ambiguous_submit == "resubmit":
                next_try = (
                    "on_ambiguous_submit is 'resubmit': the next try submits it again, and it may be billed twice."
                )
                raise error.adding(next_try, final=False) from error.__cause__
            raise error.adding(self._ways_on(intent)) from error.__cause__
        except BaseException:
            if self.hook.nothing_sent:  # a signal may have interrupted the pause between two attempts
                self._forget(intent, instead_of)
            raise

    def _forget(self, intent: Submission, instead_of: Submission | None) -> None:
        try:
            self.journal.forget(intent, instead_of)
        except VeoJournalError as error:
            self.log.warning(
                "The relay refused the request, but the record of it could not be removed, so the next try can't know "
                "that it was refused. Remove the record first: %s.\n%s",
                self.journal.where_intent,
                error,
            )

    def _unknown(self, intent: Submission) -> VeoAmbiguousSubmitError:
        return VeoAmbiguousSubmitError(
            f"Try {intent.try_number} of this task began to submit a video at {intent.intended_at}, and the outcome is "
            "not on record: the process ended, or the relay's answer was lost. It can't be known whether the request "
            "was accepted: the video may be generated and billed. Look for it at the relay.\n"
            f"{self._ways_on(intent)}"
        )

    def _ways_on(self, intent: Submission) -> str:
        again = "set on_ambiguous_submit='resubmit'"
        if self.journal.survives:
            again = f"remove the record of the request ({self.journal.where_intent}), or {again},"
        return (
            f"Possibly sent to {self.hook.settings.base_url} at {intent.intended_at}:\n"
            f"{intent.describe()}\n"
            "  - If the video exists: set existing_veo_task_id to its id, and clear this task. It continues with that "
            "video, and nothing more is billed.\n"
            f"  - If it doesn't: {again} and clear this task. It is submitted again, and billed twice if it does exist."
        )
