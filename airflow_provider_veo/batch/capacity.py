"""What can be begun now: creates to send, images to fetch; and whether a worker should wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_veo.batch.slots import Slots

if TYPE_CHECKING:
    import asyncio

    from airflow_provider_veo.batch.backoff import RelayBackoff
    from airflow_provider_veo.batch.options import Options
    from airflow_provider_veo.batch.places import Places
    from airflow_provider_veo.batch.preparation import Preparation
    from airflow_provider_veo.batch.tasks import Tasks
    from airflow_provider_veo.polling.rate_limiter import RateLimiter


class Capacity:
    """
    What can be begun now.

    :param options: the options of the batch.
    :param backoff: decides from the relay's answers how many creates may be sent.
    :param limiter: limits the rate of all requests.
    :param places: the places of all jobs.
    :param preparation: the jobs to submit.
    :param tasks: the running tasks.
    """

    def __init__(
        self,
        options: Options,
        backoff: RelayBackoff,
        limiter: RateLimiter,
        places: Places,
        preparation: Preparation,
        tasks: Tasks,
    ) -> None:
        self.creates: set[asyncio.Task[None]] = set()
        """Creates that are being sent."""
        self._is_deferrable = options.deferrable
        self._slots = Slots(options, backoff)
        self._limiter = limiter
        self._places = places
        self._preparation = preparation
        self._tasks = tasks

    def room(self, *, has_more: bool) -> int:
        """
        Begin to fetch images, and return how many creates may be sent now.

        :param has_more: whether there is more to submit in this try.
        """
        if has_more:
            self._preparation.start(self._free)
        load = self._load(has_more=has_more)
        self._limiter.has_creates = bool(load[0])
        return self._slots.room(*load)

    def seconds_to_room(self, *, has_more: bool) -> float | None:
        """Return the seconds until there may be more to do without another event; ``None``: there won't be."""
        images = self._preparation.seconds_to_start(self._free) if has_more else None
        both = (self._slots.seconds_to_room(*self._load(has_more=has_more)), images)
        return min((each for each in both if each is not None), default=None)

    def taken(self) -> None:
        """Note that creates are about to be sent."""
        self._slots.taken()

    @property
    def has_work(self) -> bool:
        """Whether a task runs that is worth a worker. Without free slots, images are not."""
        running, is_for_later = self._tasks.running, self._is_deferrable and not self._free
        return bool(running - self._preparation.tasks if is_for_later else running)

    def _load(self, *, has_more: bool) -> tuple[int, int, int]:
        """Jobs that could be submitted now, jobs in flight, and creates that are being sent."""
        return self._preparation.ready if has_more else 0, len(self._places.in_flight), len(self.creates)

    @property
    def _free(self) -> int:
        return self._slots.free(len(self._places.in_flight))
