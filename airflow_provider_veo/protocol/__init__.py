"""The relay's protocol as pure functions: no sockets, no Airflow, no clock.

:mod:`~airflow_provider_veo.protocol.payload` makes a validated request body from arguments;
:mod:`~airflow_provider_veo.protocol.responses` makes a :class:`VideoTask` or a :class:`VeoError` from an answer.
"""

from __future__ import annotations

from airflow_provider_veo.protocol.errors import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoContentBlockedError,
    VeoDownloadError,
    VeoDownloadRefusedError,
    VeoError,
    VeoGenerationFailedError,
    VeoImageError,
    VeoJournalError,
    VeoJournalRecordError,
    VeoNotFoundError,
    VeoNotSentError,
    VeoQuotaError,
    VeoRateLimitError,
    VeoRequestRejectedError,
    VeoResponseError,
    VeoTimeoutError,
    VeoUnavailableError,
    VeoValidationError,
    VeoWrongHostError,
)
from airflow_provider_veo.protocol.video import VideoTask

__all__ = [
    "VeoAmbiguousSubmitError",
    "VeoAuthenticationError",
    "VeoContentBlockedError",
    "VeoDownloadError",
    "VeoDownloadRefusedError",
    "VeoError",
    "VeoGenerationFailedError",
    "VeoImageError",
    "VeoJournalError",
    "VeoJournalRecordError",
    "VeoNotFoundError",
    "VeoNotSentError",
    "VeoQuotaError",
    "VeoRateLimitError",
    "VeoRequestRejectedError",
    "VeoResponseError",
    "VeoTimeoutError",
    "VeoUnavailableError",
    "VeoValidationError",
    "VeoWrongHostError",
    "VideoTask",
]
