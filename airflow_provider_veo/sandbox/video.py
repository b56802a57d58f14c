"""
A video's life cycle at the relay: accepted, then the family's status words over time, then finished.

A finished video stays finished, even if `generation_seconds` is changed afterwards.
"""

from __future__ import annotations

import base64
import dataclasses
import time
import uuid
from typing import TYPE_CHECKING

from airflow_provider_veo.sandbox.answers import random_letters
from airflow_provider_veo.sandbox.contract import OPENAI

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox.contract import Order

STAGES = (
    # (status word, share of the generation time at which it begins)
    ("pending", 0.0),
    ("image_downloading", 0.1),
    ("video_generating", 0.2),
    ("video_generation_completed", 0.8),
    ("video_upsampling", 0.85),
    ("video_upsampling_completed", 0.95),
)
"""The status words of a running video. It has no URL before it is `completed` (family)."""
OPENAI_STAGES = (("queued", 0.0), ("in_progress", 0.1))
"""The status words of a running video in the form of OpenAI."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """A video's status at one moment."""

    status: str
    since: float
    """When that status began, in epoch seconds."""
    finished: bool
    share: float = 1.0
    """How much of the generation time has passed, from 0 to 1."""


@dataclasses.dataclass(slots=True)
class Video:
    """One accepted video, which a real relay would bill."""

    id: str
    number: int
    """1-based order of acceptance."""
    order: Order
    accepted_at: float = dataclasses.field(default_factory=time.time)
    other_id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    """The id in answers to queries under the setting `other_id`."""
    queries: int = 0
    """Number of queries."""
    finished_queries: int = 0
    """Number of queries after it succeeded."""
    finished_at: float | None = None
    _clock: float = dataclasses.field(default_factory=time.monotonic)

    def progress(self, generation_seconds: float) -> Progress:
        """
        Return the current status.

        :param generation_seconds: How long the generation takes.
        """
        elapsed = time.monotonic() - self._clock
        if self.finished_at is None and elapsed >= generation_seconds:
            self.finished_at = self.accepted_at + generation_seconds
        if self.finished_at is not None:
            return Progress("completed", self.finished_at, finished=True)
        share = elapsed / generation_seconds
        word, begins = max((stage for stage in self._stages() if stage[1] <= share), key=lambda stage: stage[1])
        return Progress(word, self.accepted_at + begins * generation_seconds, finished=False, share=share)

    def _stages(self) -> list[tuple[str, float]]:
        if self.order.api == OPENAI:
            return list(OPENAI_STAGES)
        skipped: set[str] = set()
        if not self.order.images:
            skipped.add("image_downloading")
        if not self.order.enable_upsample:
            skipped |= {"video_upsampling", "video_upsampling_completed"}
        return [stage for stage in STAGES if stage[0] not in skipped]


def new_id(model: str, numeric: bool) -> str:
    """
    Return a new id.

    :param model: The prefix of the id (seed: `veo3.1-components:1762241017-xTL0P9HvGF`).
    :param numeric: Return a number instead, small enough for clients that read numbers as doubles.
    """
    if numeric:
        return str(uuid.uuid4().int % 2**50 + 2**50)
    return f"{model}:{int(time.time())}-{random_letters(10)}"


def new_openai_id(model: str, long: bool) -> str:
    """
    Return a new id in the form of OpenAI.

    :param long: Return an id of several hundred characters, as LiteLLM does: with another service's id in it.
    """
    if not long:
        return f"video_{uuid.uuid4().hex}{random_letters(16)}"
    operation = f"projects/sandbox/locations/us-central1/publishers/google/models/{model}/operations/{uuid.uuid4()}"
    inner = f"litellm:custom_llm_provider:vertex_ai;model_id:{model};video_id:{operation}.{random_letters(150)}"
    return "video_" + base64.b64encode(inner.encode()).decode()
